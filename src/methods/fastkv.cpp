// FastKV (arXiv 2502.01068): every layer keeps its best cache entries, and after one layer only the best tokens go on.
#include <algorithm>

#include "methods/budget.h"
#include "methods/params_check.h"
#include "methods/registry.h"

namespace fastkv {

extern const MethodEntry fastkv_method;

namespace {

// Where the paper published nothing for an architecture, what was measured on a model of it (docs/methods.md): a lower
// layer than in the paper, tokens chosen by more of the question, and whole, more of them cached, but small. Each only
// where it is not given.
bool has_measured_defaults(const HyperParams& hparams) { return hparams.arch == "qwen2"; }

void fill_in_for_architecture(MethodParams& resolved, const HyperParams& hparams) {
    if (!has_measured_defaults(hparams)) return;
    if (resolved.tsp_layer.value_or(TspLayer::model_default) == TspLayer::model_default) {
        resolved.tsp_layer = 3 * hparams.n_layer / 10;  // 7 of 24
    }
    if (resolved.score != ScoreBy::expected) {
        // as much of the question as the default budget has room for; one's own may be small
        if (!resolved.window) resolved.window = resolved.retain_rate || resolved.budget ? 32 : 64;
        if (!resolved.kernel) resolved.kernel = MethodParams::kernel_auto;
    }
    if (resolved.budget) return;
    if (!resolved.retain_rate) {
        resolved.retain_rate = std::min(0.118, resolved.tsp_rate.value_or(1));  // in blocks 5 % of float16's bytes
        if (!resolved.min_budget) resolved.min_budget = 115;
    }
}

MethodParams resolve_fastkv(const MethodParams& params, const HyperParams& hparams) {
    refuse_foreign(params, fastkv_method.info, "whose key/value heads choose for themselves");
    MethodParams resolved = params;
    fill_in_for_architecture(resolved, hparams);
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
     {"retain_rate", "budget", "min_budget", "tsp_layer", "tsp_rate", "tsp_len", "tsp_score_layers", "window", "kernel",
      "pooling", "score", "head_floor", "layer_budget", "sinks"}},
    resolve_fastkv,
    plan_fastkv,
    nullptr,
    has_measured_defaults,
};

}  // namespace fastkv
