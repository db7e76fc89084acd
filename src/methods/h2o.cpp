// H2O (arXiv 2306.14048): every layer keeps the heavy hitters, the entries that all tokens together attend to most.
#include <algorithm>

#include "methods/budget.h"
#include "methods/h2o_eviction.h"
#include "methods/params_check.h"
#include "methods/registry.h"
#include "methods/schedule.h"

namespace fastkv {

extern const MethodEntry h2o_method;

namespace {

bool evicts(const MethodParams& params) { return *params.h2o_decode == H2oDecode::evict; }

// The paper's: heavy hitters and recent tokens at a budget that the answer too has to keep to, and no window.
void resolve_evicting(MethodParams& resolved) {
    const std::string evict = "with --h2o-decode evict";
    if (resolved.h2o_mask == H2oMask::reference) {
        refuse("--h2o-mask reference is not used " + evict + ": the reference evicts nothing");
    }
    refuse_unused(resolved.head_floor, "--head-floor", evict + ", which holds every head to the same budget");
    resolved.h2o_recent = checked_share(resolved.h2o_recent.value_or(0.5), "--h2o-recent");
    if (resolved.tsp_layer.value_or(TspLayer::off) == TspLayer::off) {
        refuse_unused(resolved.window, "--window", evict + ": --h2o-recent sets the latest tokens that stay");
    } else {
        resolve_window(resolved);  // which goes on
    }
}

MethodParams resolve_h2o(const MethodParams& params, const HyperParams& hparams) {
    refuse_foreign(params, h2o_method.info, "which adds up the attention of all tokens");
    MethodParams resolved = params;
    resolved.select_per = params.select_per.value_or(SelectPer::kv_head);
    resolved.h2o_decode = params.h2o_decode.value_or(H2oDecode::keep);
    if (evicts(resolved)) {
        resolve_evicting(resolved);
    } else {
        refuse_unused(resolved.h2o_recent, "--h2o-recent", "without --h2o-decode evict");
        resolve_window(resolved);
    }
    resolved.h2o_mask = resolved.h2o_mask.value_or(H2oMask::causal);
    resolve_sharing(resolved, hparams, TspLayer::off);
    if (evicts(resolved)) resolved.head_floor.reset();
    return resolved;
}

// At least one: the token that is being answered.
int recent_rows(const MethodParams& params, int count) { return std::max(1, truncated(count, *params.h2o_recent)); }

LayerPlan plan_h2o(const MethodParams& params, const PlanPoint& at) {
    KeepPlan keep{.per = *params.select_per};
    ScorePlan score{.n_query = at.n_rows};
    if (evicts(params)) {
        keep.count = layer_budget(params, at, 1);
        keep.tail = recent_rows(params, keep.count);
    } else {
        keep.tail = *params.window;
        keep.count = layer_budget(params, at, keep.tail);
        score.tail = keep.tail;
        if (*params.h2o_mask == H2oMask::reference) score.mask = ScoreMask::tail_causal;
    }
    LayerPlan plan = plan_layer(params, at, score, keep);
    if (evicts(params) && keep.count > 0) plan.score = score;  // which the eviction goes on from
    return plan;
}

std::unique_ptr<Eviction> h2o_evicts(const MethodParams& params, const HyperParams& hparams, int layer, int n_prompt) {
    if (!evicts(params)) return nullptr;
    const auto layers = plan_prompt(h2o_method, params, hparams.n_layer, n_prompt);
    const int budget = layer_budget(params, layers[size_t(layer)].at, 1);
    if (budget < 1) return nullptr;
    return h2o_eviction(budget, recent_rows(params, budget));
}

}  // namespace

const MethodEntry h2o_method = {
    {"h2o",
     "a compressed cache in all layers, chosen by all tokens",
     "Zhang et al. 2023, H2O, arXiv 2306.14048",
     {"retain_rate", "budget", "min_budget", "tsp_layer", "tsp_rate", "tsp_len", "tsp_score_layers", "window",
      "select_per", "head_floor", "layer_budget", "h2o_mask", "h2o_decode", "h2o_recent"}},
    resolve_h2o,
    plan_h2o,
    h2o_evicts,
};

}  // namespace fastkv
