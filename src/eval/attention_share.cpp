#include "eval/attention_share.h"

#include <algorithm>
#include <functional>

namespace fastkv::eval {

namespace {

/// Of the query heads [first_head, first_head + n) together: [n_prompt - first].
std::vector<double> sums_of(const AnswerAttention& attention, int first_head, int n, int first) {
    std::vector<double> sums(size_t(std::max(0, attention.n_prompt - first)), 0);
    for (int head = first_head; head < first_head + n; ++head) {
        const auto row = attention.of_head(head);
        for (size_t i = 0; i < sums.size(); ++i) sums[i] += row[size_t(first) + i];
    }
    return sums;
}

double sum_of(const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value;
    return sum;
}

double sum_at(const std::vector<double>& values, const std::vector<int>& positions, int first) {
    double sum = 0;
    for (const int position : positions) {
        if (position >= first) sum += values[size_t(position - first)];
    }
    return sum;
}

/// Of the `count` largest.
double sum_of_largest(std::vector<double> values, size_t count) {
    count = std::min(count, values.size());
    std::nth_element(values.begin(), values.begin() + std::ptrdiff_t(count), values.end(), std::greater<>());
    values.resize(count);
    return sum_of(values);
}

}  // namespace

AttentionShare kept_share(const AnswerAttention& attention, const LayerReport& layer, int first) {
    const int n_query = attention.n_head / layer.n_head_cached;  // query heads of a cached head
    double all = 0;
    AttentionShare share;
    for (int head = 0; head < layer.n_head_cached; ++head) {
        const std::vector<double> sums = sums_of(attention, head * n_query, n_query, first);
        const std::vector<int>& kept = layer.kept_by(head);
        const auto counted = std::count_if(kept.begin(), kept.end(), [&](int position) { return position >= first; });
        all += sum_of(sums);
        share.kept += sum_at(sums, kept, first);
        share.best += sum_of_largest(sums, size_t(counted));
    }
    if (all <= 0) return {};
    return {share.kept / all, share.best / all};
}

double share_on(std::span<const AnswerAttention> attention, const std::vector<int>& positions, int first) {
    double all = 0, on = 0;
    for (const AnswerAttention& layer : attention) {
        const std::vector<double> sums = sums_of(layer, 0, layer.n_head, first);
        all += sum_of(sums);
        on += sum_at(sums, positions, first);
    }
    return all > 0 ? on / all : 0;
}

}  // namespace fastkv::eval
