// Pooling, reduction over heads and top-k selection, in plain loops that the compiler vectorises.
#include "methods/select.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

namespace fastkv {

namespace {

constexpr float lowest = -std::numeric_limits<float>::infinity();

// Merges `in` shifted by `offset` into `out`: out[i] = merge(out[i], in[i + offset]) wherever both exist.
template <class Merge>
void merge_shifted(std::span<const float> in, std::span<float> out, std::ptrdiff_t offset, Merge merge) {
    const auto size = std::ssize(in);
    const auto begin = std::max<std::ptrdiff_t>(0, -offset);
    const auto end = std::min(size, size - offset);
    for (auto i = begin; i < end; ++i) out[size_t(i)] = merge(out[size_t(i)], in[size_t(i + offset)]);
}

void pool_row(std::span<float> row, int kernel, Pooling pooling, std::vector<float>& in) {
    in.assign(row.begin(), row.end());
    std::fill(row.begin(), row.end(), pooling == Pooling::max ? lowest : 0.0f);
    // Farther neighbours than the row is long do not exist.
    const auto half = std::min<std::ptrdiff_t>(kernel / 2, std::ssize(in) - 1);
    for (auto offset = -half; offset <= half; ++offset) {
        if (pooling == Pooling::max) {
            merge_shifted(in, row, offset, [](float best, float x) { return x > best ? x : best; });
        } else {
            merge_shifted(in, row, offset, [](float sum, float x) { return sum + x; });
        }
    }
    if (pooling == Pooling::avg) {
        for (float& x : row) x /= float(kernel);
    }
}

}  // namespace

void pool(Scores& scores, int kernel, Pooling pooling) {
    if (kernel <= 1) return;
    std::vector<float> in;  // [n_col]: the row as it was
    for (int head = 0; head < scores.n_head; ++head) pool_row(scores.row(head), kernel, pooling, in);
}

Scores sum_groups(const Scores& scores, int n_group) {
    Scores sums;
    sums.n_head = scores.n_head / n_group;
    sums.n_col = scores.n_col;
    sums.values.assign(size_t(sums.n_head) * size_t(sums.n_col), 0.0f);
    for (int head = 0; head < sums.n_head * n_group; ++head) {
        merge_shifted(scores.row(head), sums.row(head / n_group), 0, [](float sum, float x) { return sum + x; });
    }
    return sums;
}

Scores sum_heads(const Scores& scores) { return sum_groups(scores, std::max(1, scores.n_head)); }

std::vector<int> top_k(std::span<const float> values, int count) {
    const size_t k = size_t(std::clamp<std::ptrdiff_t>(count, 0, std::ssize(values)));
    std::vector<int> selected(k);
    if (k == 0) return selected;
    if (k == values.size()) {
        std::iota(selected.begin(), selected.end(), 0);
        return selected;
    }
    const auto score = [&](size_t i) { return std::isnan(values[i]) ? lowest : values[i]; };

    // The k-th largest value is the cut. All above it are in; of those equal to it the first few fill the rest.
    std::vector<float> order(values.size());
    for (size_t i = 0; i < values.size(); ++i) order[i] = score(i);
    std::nth_element(order.begin(), order.begin() + std::ptrdiff_t(k - 1), order.end(), std::greater<>());
    const float cut = order[k - 1];
    const auto above =
        std::count_if(order.begin(), order.begin() + std::ptrdiff_t(k), [&](float x) { return x > cut; });

    size_t at_cut = k - size_t(above);
    size_t n = 0;
    for (size_t i = 0; n < k; ++i) {
        const float x = score(i);
        if (x == cut && at_cut > 0) {
            --at_cut;
        } else if (!(x > cut)) {
            continue;
        }
        selected[n++] = int(i);
    }
    return selected;
}

std::vector<int> select_with_tail(std::span<const float> values, int count, int tail, int n_rows) {
    tail = std::clamp(tail, 0, n_rows);
    const int n_head_rows = n_rows - tail;
    std::vector<int> selected = top_k(values.first(std::min(values.size(), size_t(n_head_rows))), count - tail);
    selected.reserve(selected.size() + size_t(tail));
    for (int row = n_head_rows; row < n_rows; ++row) selected.push_back(row);
    return selected;
}

}  // namespace fastkv
