// FastKV (arXiv 2502.01068): every layer keeps its best cache entries, and after one layer only the best tokens go on.
#include <algorithm>

#include "methods/params_check.h"
#include "methods/registry.h"

namespace fastkv {

namespace {

// The paper's choices by its eq. 3 are layers 15 of 32, 17 of 36 and 19 of 40, counted from 0: always the last layer
// of the lower half, and so the same relative depth for every other model.
int default_tsp_layer(int n_layer) { return std::max(0, n_layer / 2 - 1); }

int resolve_tsp_layer(const MethodParams& params, const HyperParams& hparams) {
    const int layer = params.tsp_layer.value_or(TspLayer::model_default);
    if (layer == TspLayer::off) return layer;
    if (layer == TspLayer::model_default) return default_tsp_layer(hparams.n_layer);
    if (layer < 0 || layer >= hparams.n_layer) {
        refuse("--tsp-layer " + std::to_string(layer) + " is outside the model: its layers are 0 to " +
               std::to_string(hparams.n_layer - 1) + ", or off");
    }
    return layer;
}

// Shares of the prompt. More retained than propagated (r > rho) cannot be had past the TSP layer.
void resolve_proportional(MethodParams& resolved) {
    refuse_unused(resolved.tsp_len, "--tsp-len", "without --budget; --tsp-rate sets the share that goes on");
    const double retain_rate = checked_rate(resolved.retain_rate.value_or(0.1), "--retain-rate");
    resolved.retain_rate = retain_rate;
    if (resolved.tsp_layer == TspLayer::off) {
        refuse_unused(resolved.tsp_rate, "--tsp-rate", "with --tsp-layer off");
        return;
    }
    const double tsp_rate = checked_rate(resolved.tsp_rate.value_or(std::max(0.2, retain_rate)), "--tsp-rate");
    if (retain_rate > tsp_rate) {
        refuse("--retain-rate " + number_text(retain_rate) + " is above --tsp-rate " + number_text(tsp_rate) +
               ": a layer cannot keep more tokens than reach it");
    }
    resolved.tsp_rate = tsp_rate;
}

// Numbers of tokens. Both include the window, so a smaller one would be an empty promise.
void resolve_constant(MethodParams& resolved) {
    const std::string with_budget = "with --budget, which counts tokens: ";
    refuse_unused(resolved.retain_rate, "--retain-rate", with_budget + "give one of the two");
    refuse_unused(resolved.tsp_rate, "--tsp-rate", with_budget + "use --tsp-len");
    const int window = *resolved.window;
    const int budget = checked_at_least(*resolved.budget, 1, "--budget");
    if (budget < window) {
        refuse("--budget " + std::to_string(budget) + " is below --window " + std::to_string(window) +
               ", which it includes");
    }
    if (resolved.tsp_layer == TspLayer::off) {
        refuse_unused(resolved.tsp_len, "--tsp-len", "with --tsp-layer off");
        return;
    }
    const int tsp_len = checked_at_least(resolved.tsp_len.value_or(2048), 1, "--tsp-len");
    if (tsp_len <= window) {
        refuse("--tsp-len " + std::to_string(tsp_len) + " must be above --window " + std::to_string(window) +
               ", which it includes");
    }
    resolved.tsp_len = tsp_len;
}

MethodParams resolve_fastkv(const MethodParams& params, const HyperParams& hparams) {
    MethodParams resolved = params;
    resolved.window = checked_at_least(params.window.value_or(8), 1, "--window");
    resolved.kernel = checked_at_least(params.kernel.value_or(7), 1, "--kernel");
    if (*resolved.kernel % 2 == 0) {
        refuse("--kernel " + std::to_string(*resolved.kernel) + " is even: it needs a middle, so an odd number");
    }
    resolved.pooling = params.pooling.value_or(Pooling::max);
    resolved.tsp_layer = resolve_tsp_layer(params, hparams);
    if (params.budget) {
        resolve_constant(resolved);
    } else {
        resolve_proportional(resolved);
    }
    return resolved;
}

// Tokens that a layer caches when `n_rows` reach it. Past the TSP layer the same share of the prompt is a larger
// share of the rows that are left, r / rho; where a short prompt was not reduced, it stays r. Products are truncated
// doubles, as in the reference.
int cache_budget(const MethodParams& params, int n_prompt, int n_rows) {
    if (params.budget) return *params.budget;
    const double share = n_rows < n_prompt ? *params.retain_rate / *params.tsp_rate : *params.retain_rate;
    return int(n_rows * share);
}

// Tokens that go on after the TSP layer; all of them where there is nothing to choose. In constant mode a prompt
// below the budget is left alone altogether.
int propagated_rows(const MethodParams& params, int n_rows) {
    if (params.budget && n_rows < *params.budget) return n_rows;
    const int count = params.budget ? *params.tsp_len : int(n_rows * *params.tsp_rate);
    return count > *params.window ? std::min(count, n_rows) : n_rows;
}

LayerPlan plan_fastkv(const MethodParams& params, const PlanPoint& at) {
    LayerPlan plan;
    const int n_rows = at.n_rows;
    const int window = *params.window;
    if (n_rows <= window) return plan;  // nothing before the window to choose from

    const int keep = cache_budget(params, at.n_prompt, n_rows);
    // A budget that does not hold the window (prompts of a few dozen tokens) keeps all: they cost nothing.
    if (keep >= window && keep < n_rows) plan.keep = KeepPlan{.count = keep, .tail = window};

    if (at.layer == *params.tsp_layer) {
        const int count = propagated_rows(params, n_rows);
        if (count < n_rows) plan.propagate = PropagatePlan{.count = count, .tail = window};
    }
    if (plan.keep || plan.propagate) {
        plan.score = ScorePlan{.n_query = window, .tail = window, .kernel = *params.kernel, .pooling = *params.pooling};
    }
    return plan;
}

}  // namespace

extern const MethodEntry fastkv_method;
const MethodEntry fastkv_method = {
    {"fastkv", "token-selective propagation after one layer, and a compressed cache in all",
     "Jo et al., FastKV, arXiv 2502.01068"},
    resolve_fastkv,
    plan_fastkv,
};

}  // namespace fastkv
