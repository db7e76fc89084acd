// What a method plans for a whole prompt, layer after layer, before anything is computed.
#pragma once

#include <vector>

#include "methods/registry.h"

namespace fastkv {

/// One layer of one pass.
struct PlannedLayer {
    PlanPoint at;
    LayerPlan plan;
    int cached = 0;  ///< entries per cached head; with head-wise budgets their mean
    int passed = 0;  ///< rows that go on to the next layer

    /// Cached heads of a model with these.
    int cached_heads(int n_head, int n_head_kv) const {
        return plan.keep && plan.keep->per == SelectPer::query_head ? n_head : n_head_kv;
    }
};

/// The layers that a prompt of `n_prompt` tokens goes through, in order; after a restart pass 1 begins at layer 0
/// again. The layers of the last pass, and only they, leave a cache.
std::vector<PlannedLayer> plan_prompt(const MethodEntry& method, const MethodParams& params, int n_layer, int n_prompt);

}  // namespace fastkv
