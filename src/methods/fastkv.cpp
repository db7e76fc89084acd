// FastKV (arXiv 2502.01068): every layer keeps its best cache entries, and after one layer only the best tokens go on.
#include <algorithm>

#include "methods/budget.h"
#include "methods/params_check.h"
#include "methods/registry.h"

namespace fastkv {

extern const MethodEntry fastkv_method;

namespace {

// Where the paper published nothing for an architecture, what was measured on a model of it (docs/methods.md): a lower
// layer than in the paper, tokens chosen by more of the question, and whole, more of them cached, but small, and most
// of them in the layers that find things. Each only where it is not given.
bool has_measured_defaults(const HyperParams& hparams) { return hparams.arch == "qwen2"; }

// From some length on a tenth of the tokens is enough to go on, and the layer that tells best may choose it. It needs
// less of the question for that.
void fill_in_propagation(MethodParams& resolved, const HyperParams& hparams) {
    const bool layer_given = resolved.tsp_layer.value_or(TspLayer::model_default) != TspLayer::model_default;
    const bool long_given =
        resolved.long_prompt || resolved.long_tsp_layer || resolved.long_tsp_rate || resolved.long_window;
    const bool others_given = resolved.tsp_rate || resolved.tsp_score_layers || resolved.budget;
    constexpr double long_tsp_rate = 0.1;
    const bool keeps_more = resolved.retain_rate.value_or(0) > long_tsp_rate;
    if (!layer_given && !long_given && !others_given && !keeps_more) {
        resolved.long_prompt = 3500;
        resolved.long_tsp_layer = 3 * hparams.n_layer / 8;  // 9 of 24
        resolved.long_tsp_rate = long_tsp_rate;
        if (!resolved.window && resolved.score != ScoreBy::expected) resolved.long_window = 32;
    }
    if (!layer_given) resolved.tsp_layer = 3 * hparams.n_layer / 10;  // 7 of 24
}

void fill_in_for_architecture(MethodParams& resolved, const HyperParams& hparams) {
    if (!has_measured_defaults(hparams)) return;
    fill_in_propagation(resolved, hparams);
    if (resolved.score != ScoreBy::expected) {
        // as much of the question as the default budget has room for; one's own may be small
        if (!resolved.window) resolved.window = resolved.retain_rate || resolved.budget ? 32 : 64;
        if (!resolved.kernel) resolved.kernel = MethodParams::kernel_auto;
        if (!resolved.layer_budget) resolved.layer_budget = LayerBudget::upper;
    }
    if (resolved.budget) return;
    if (!resolved.retain_rate) {
        resolved.retain_rate = std::min(0.118, resolved.tsp_rate.value_or(1));  // in blocks 5 % of float16's bytes
        if (!resolved.min_budget) resolved.min_budget = 115;
    }
}

// Fills in and checks what holds for a long prompt instead, if anything does; after resolve_sharing().
void resolve_long_prompt(MethodParams& resolved, const HyperParams& hparams) {
    const auto refuse_without = [&](const std::string& why) {
        refuse_unused(resolved.long_prompt, "--long-prompt", why);
        refuse_unused(resolved.long_tsp_layer, "--long-tsp-layer", why);
        refuse_unused(resolved.long_tsp_rate, "--long-tsp-rate", why);
        refuse_unused(resolved.long_window, "--long-window", why);
    };
    if (*resolved.tsp_layer == TspLayer::off) return refuse_without("with --tsp-layer off");
    if (resolved.budget) return refuse_without("with --budget, which counts tokens");
    if (!resolved.long_prompt) return refuse_without("without --long-prompt, which says from how many tokens on");
    checked_at_least(*resolved.long_prompt, 1, "--long-prompt");
    if (!resolved.long_tsp_layer && !resolved.long_tsp_rate && !resolved.long_window) {
        refuse("--long-prompt changes nothing without --long-tsp-layer, --long-tsp-rate or --long-window");
    }
    resolved.long_tsp_layer =
        checked_layer(resolved.long_tsp_layer.value_or(*resolved.tsp_layer), hparams.n_layer, "--long-tsp-layer");
    resolved.long_tsp_rate = checked_rate(resolved.long_tsp_rate.value_or(*resolved.tsp_rate), "--long-tsp-rate");
    resolved.long_window = checked_at_least(resolved.long_window.value_or(*resolved.window), 1, "--long-window");
    if (*resolved.tsp_score_layers > *resolved.long_tsp_layer + 1) {
        refuse("--tsp-score-layers " + std::to_string(*resolved.tsp_score_layers) +
               " reaches below layer 0 with --long-tsp-layer " + std::to_string(*resolved.long_tsp_layer));
    }
}

// The parameters that hold for a prompt of `n_prompt` tokens: those of a long one in the place of the others.
MethodParams at_length(const MethodParams& params, int n_prompt) {
    MethodParams own = params;
    if (!params.long_prompt || n_prompt < *params.long_prompt) return own;
    own.tsp_layer = params.long_tsp_layer;
    own.tsp_rate = params.long_tsp_rate;
    own.window = params.long_window;
    own.retain_rate = std::min(*params.retain_rate, *own.tsp_rate);  // a layer caches no more than reach it
    return own;
}

MethodParams resolve_fastkv(const MethodParams& params, const HyperParams& hparams) {
    refuse_foreign(params, fastkv_method.info, "whose key/value heads choose for themselves");
    MethodParams resolved = params;
    fill_in_for_architecture(resolved, hparams);
    resolve_window(resolved);
    resolve_scoring(resolved);
    resolve_sharing(resolved, hparams, TspLayer::model_default);
    resolve_long_prompt(resolved, hparams);
    return resolved;
}

LayerPlan plan_fastkv(const MethodParams& any_length, const PlanPoint& at) {
    const MethodParams params = at_length(any_length, at.n_prompt);
    KeepPlan keep{.sinks = params.sinks.value_or(0), .tail = *params.window};
    keep.count = layer_budget(params, at, keep.sinks + keep.tail);
    return plan_layer(params, at, window_score(params), keep);
}

}  // namespace

const MethodEntry fastkv_method = {
    {"fastkv",
     "token-selective propagation after one layer, and a compressed cache in all",
     "Jo et al., FastKV, arXiv 2502.01068",
     {"retain_rate", "budget", "min_budget", "tsp_layer", "tsp_rate", "tsp_len", "long_prompt", "long_tsp_layer",
      "long_tsp_rate", "long_window", "tsp_score_layers", "window", "kernel", "pooling", "score", "head_floor",
      "layer_budget", "sinks"}},
    resolve_fastkv,
    plan_fastkv,
    nullptr,
    has_measured_defaults,
};

}  // namespace fastkv
