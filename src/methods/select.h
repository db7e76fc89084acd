// From scores to kept positions: pure functions on the host, so that every device selects alike.
#pragma once

#include <span>
#include <vector>

#include "methods/plan.h"

namespace fastkv {

/// Scores of one layer: one row per head, one column per token before the window.
struct Scores {
    int n_head = 0;
    int n_col = 0;
    std::vector<float> values;  ///< [n_head][n_col]

    std::span<float> row(int head) { return {values.data() + size_t(head) * n_col, size_t(n_col)}; }
    std::span<const float> row(int head) const { return {values.data() + size_t(head) * n_col, size_t(n_col)}; }
};

/// Pools every row along its columns: stride 1, same length, `kernel` odd. `max` looks at the neighbours that
/// exist and ignores NaN, `avg` divides by the kernel size always (PyTorch's count_include_pad).
void pool(Scores& scores, int kernel, Pooling pooling);

/// Sums each run of `n_group` rows: query heads [n_head] -> key/value heads [n_head / n_group].
Scores sum_groups(const Scores& scores, int n_group);

/// Sums all rows into one.
Scores sum_heads(const Scores& scores);

/// The indices of the `count` largest values, ascending; of equal values the lower index wins. NaN counts as
/// -infinity. `count` <= 0 selects none, `count` >= size all. Linear in the number of values.
std::vector<int> top_k(std::span<const float> values, int count);

/// The rows that a plan keeps out of `n_rows`: top `count - tail` of `values` (one per row before the tail),
/// then the last `tail` rows; ascending. The tail is never cut: `count` below `tail` keeps the tail alone.
std::vector<int> select_with_tail(std::span<const float> values, int count, int tail, int n_rows);

}  // namespace fastkv
