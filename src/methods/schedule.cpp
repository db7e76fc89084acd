#include "methods/schedule.h"

namespace fastkv {

std::vector<PlannedLayer> plan_prompt(const MethodEntry& method, const MethodParams& params, int n_layer,
                                      int n_prompt) {
    std::vector<PlannedLayer> layers;
    PlanPoint at{.layer = 0, .n_layer = n_layer, .n_prompt = n_prompt, .n_rows = n_prompt, .pass = 0};
    while (at.layer < n_layer) {
        const LayerPlan plan = method.plan(params, at);
        const int cached = plan.keep ? plan.keep->count : at.n_rows;
        const int passed = plan.propagate ? plan.propagate->count : at.n_rows;
        layers.push_back({at, plan, cached, passed});
        if (plan.propagate && plan.propagate->restart) {
            at = {.layer = 0, .n_layer = n_layer, .n_prompt = passed, .n_rows = passed, .pass = at.pass + 1};
        } else {
            ++at.layer;
            at.n_rows = passed;
        }
    }
    return layers;
}

}  // namespace fastkv
