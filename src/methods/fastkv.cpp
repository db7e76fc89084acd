// FastKV (arXiv 2502.01068): every layer keeps its best cache entries, and after one layer only the best tokens go on.
#include "methods/budget.h"
#include "methods/params_check.h"
#include "methods/registry.h"

namespace fastkv {

extern const MethodEntry fastkv_method;

namespace {

MethodParams resolve_fastkv(const MethodParams& params, const HyperParams& hparams) {
    refuse_foreign(params, fastkv_method.info, "whose key/value heads choose for themselves");
    MethodParams resolved = params;
    resolve_window(resolved);
    resolve_scoring(resolved);
    resolve_sharing(resolved, hparams, TspLayer::model_default);
    return resolved;
}

LayerPlan plan_fastkv(const MethodParams& params, const PlanPoint& at) {
    KeepPlan keep{.sinks = params.sinks.value_or(0), .tail = *params.window};
    keep.count = layer_budget(params, at, keep.sinks + keep.tail);
    return plan_layer(params, at, window_score(params), keep);
}

}  // namespace

const MethodEntry fastkv_method = {
    {"fastkv",
     "token-selective propagation after one layer, and a compressed cache in all",
     "Jo et al., FastKV, arXiv 2502.01068",
     {"retain_rate", "budget", "tsp_layer", "tsp_rate", "tsp_len", "tsp_score_layers", "window", "kernel", "pooling",
      "score", "head_floor", "layer_budget", "sinks"}},
    resolve_fastkv,
    plan_fastkv,
};

}  // namespace fastkv
