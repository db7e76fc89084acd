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

/// How many rows to choose: the first `sinks` and the last `tail` are always among them.
struct RowCount {
    int count = 0;
    int sinks = 0;
    int tail = 0;
};

/// Chooses `want.count` of `n_rows` rows, ascending: the protected ones and the best between by `values`, one per row
/// from the first on. The protected rows are never cut, and rows past the end of `values` are never chosen.
std::vector<int> select_rows(std::span<const float> values, const RowCount& want, int n_rows);

/// The same for every row of `scores`, where the heads share n_head · `want.count` rows by score: one that scores high
/// gets more, but each has at least `least`. Lengths differ, their sum does not. (AdaKV, arXiv 2407.11550,
/// algorithm 1; the safeguard as a lower bound.)
std::vector<std::vector<int>> select_shared(const Scores& scores, const RowCount& want, int least, int n_rows);

}  // namespace fastkv
