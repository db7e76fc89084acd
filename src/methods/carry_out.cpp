#include "methods/carry_out.h"

#include <algorithm>

#include "methods/spans.h"

namespace fastkv {

namespace {

void merge_neighbours(Scores& scores, const ScorePlan& plan, std::span<const int> spans) {
    pool(scores, plan.kernel, plan.pooling);
    if (plan.whole_spans) pool_spans(scores, spans, plan.pooling);
}

// `scores` are those of the heads that choose; without any, the protected rows are all.
std::vector<std::vector<int>> kept_rows(const KeepPlan& keep, const Scores& scores, int n_rows) {
    const RowCount want{.count = keep.count, .sinks = keep.sinks, .tail = keep.tail};
    if (scores.n_head == 0) return {select_rows({}, want, n_rows)};
    if (keep.floor < 1) return select_shared(scores, want, int(keep.count * keep.floor), n_rows);
    std::vector<std::vector<int>> kept;
    for (int head = 0; head < scores.n_head; ++head) kept.push_back(select_rows(scores.row(head), want, n_rows));
    return kept;
}

// CLAA (arXiv 2602.16054): a token goes on for the best that it is to one of the last layers. A layer that did not
// score has no say.
std::vector<int> propagated_rows(const PropagatePlan& plan, std::vector<float> total, const CarryOut& context) {
    const size_t n_earlier = std::min(size_t(plan.n_layer - 1), context.earlier.size());
    for (const std::vector<float>& other : context.earlier.last(n_earlier)) {
        if (other.size() != total.size()) continue;
        for (size_t i = 0; i < total.size(); ++i) total[i] = std::max(total[i], other[i]);
    }
    return select_rows(total, {.count = plan.count, .sinks = plan.sinks, .tail = plan.tail}, context.n_rows);
}

}  // namespace

Choice carry_out(const LayerPlan& plan, Scores scores, const CarryOut& context) {
    Choice choice;
    Scores by_kv_head;
    if (plan.score) {
        merge_neighbours(scores, *plan.score, context.spans);
        by_kv_head = sum_groups(scores, context.n_group);  // the papers average: same order
        choice.total = sum_heads(by_kv_head).values;
    }
    if (plan.keep && plan.keep->count > 0) {
        const bool per_query_head = plan.keep->per == SelectPer::query_head;
        choice.kept = kept_rows(*plan.keep, per_query_head ? scores : by_kv_head, context.n_rows);
    }
    if (plan.propagate) choice.propagated = propagated_rows(*plan.propagate, choice.total, context);
    return choice;
}

}  // namespace fastkv
