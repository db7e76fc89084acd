#include "methods/carry_out.h"

namespace fastkv {

Choice carry_out(const LayerPlan& plan, Scores scores, int n_group, int n_rows) {
    Choice choice;
    if (!plan.score) return choice;
    pool(scores, plan.score->kernel, plan.score->pooling);
    const Scores by_kv_head = sum_groups(scores, n_group);  // the paper averages: same order
    if (plan.keep) {
        for (int head = 0; head < by_kv_head.n_head; ++head) {
            choice.kept.push_back(select_with_tail(by_kv_head.row(head), plan.keep->count, plan.keep->tail, n_rows));
        }
    }
    if (plan.propagate) {
        choice.propagated =
            select_with_tail(sum_heads(by_kv_head).row(0), plan.propagate->count, plan.propagate->tail, n_rows);
    }
    return choice;
}

}  // namespace fastkv
