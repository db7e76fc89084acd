// SnapKV (arXiv 2404.14469): every layer keeps the cache entries that the prompt's last tokens look at.
#include "methods/budget.h"
#include "methods/params_check.h"
#include "methods/registry.h"

namespace fastkv {

extern const MethodEntry snapkv_method;

namespace {

MethodParams resolve_snapkv(const MethodParams& params, const HyperParams& hparams) {
    refuse_foreign(params, snapkv_method.info, "which keeps what its window looks at");
    MethodParams resolved = params;
    resolved.select_per = params.select_per.value_or(SelectPer::kv_head);
    resolve_window(resolved);
    resolve_scoring(resolved);
    resolve_sharing(resolved, hparams, TspLayer::off);
    return resolved;
}

LayerPlan plan_snapkv(const MethodParams& params, const PlanPoint& at) {
    KeepPlan keep{.sinks = params.sinks.value_or(0), .tail = *params.window, .per = *params.select_per};
    keep.count = layer_budget(params, at, keep.sinks + keep.tail);
    return plan_layer(params, at, window_score(params), keep);
}

}  // namespace

const MethodEntry snapkv_method = {
    {"snapkv",
     "a compressed cache in all layers, chosen by the last tokens",
     "Li et al. 2024, SnapKV, arXiv 2404.14469",
     {"retain_rate", "budget", "min_budget", "tsp_layer", "tsp_rate", "tsp_len", "tsp_score_layers", "window", "kernel",
      "pooling", "score", "select_per", "head_floor", "layer_budget", "sinks"}},
    resolve_snapkv,
    plan_snapkv,
};

}  // namespace fastkv
