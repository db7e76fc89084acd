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

namespace {

// The rows between the protected ones that have a value: those that may be chosen or not.
struct OpenRows {
    int begin, end;
    int tail;  // where the protected tail begins
    int n_rows;

    OpenRows(int n_value, const RowCount& want, int rows) : n_rows(rows) {
        begin = std::clamp(want.sinks, 0, n_rows);
        tail = std::max(begin, n_rows - std::max(want.tail, 0));
        end = std::clamp(n_value, begin, tail);
    }
    int size() const { return end - begin; }
    int n_protected() const { return begin + n_rows - tail; }

    /// The protected rows and the `chosen` ones, which count from `begin`.
    std::vector<int> with(std::span<const int> chosen) const {
        std::vector<int> rows;
        rows.reserve(chosen.size() + size_t(n_protected()));
        for (int row = 0; row < begin; ++row) rows.push_back(row);
        for (const int row : chosen) rows.push_back(begin + row);
        for (int row = tail; row < n_rows; ++row) rows.push_back(row);
        return rows;
    }
};

}  // namespace

std::vector<int> select_rows(std::span<const float> values, const RowCount& want, int n_rows) {
    const OpenRows open(int(values.size()), want, n_rows);
    if (open.size() == 0) return open.with({});
    return open.with(top_k(values.subspan(size_t(open.begin), size_t(open.size())), want.count - open.n_protected()));
}

std::vector<std::vector<int>> select_shared(const Scores& scores, const RowCount& want, int least, int n_rows) {
    const OpenRows open(scores.n_col, want, n_rows);
    Scores all{scores.n_head, open.size(), {}};  // the heads in a row; what a head has in any case, above all others
    for (int head = 0; head < scores.n_head; ++head) {
        const auto row = scores.row(head).subspan(size_t(open.begin), size_t(open.size()));
        all.values.insert(all.values.end(), row.begin(), row.end());
        for (const int i : top_k(row, least - open.n_protected())) all.row(head)[size_t(i)] = -lowest;
    }
    std::vector<std::vector<int>> chosen(size_t(scores.n_head));  // [n_head][its own count]
    for (const int i : top_k(all.values, scores.n_head * (want.count - open.n_protected()))) {
        chosen[size_t(i / open.size())].push_back(i % open.size());
    }
    for (auto& rows : chosen) rows = open.with(rows);
    return chosen;
}

}  // namespace fastkv
