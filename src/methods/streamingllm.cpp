// StreamingLLM (arXiv 2309.17453): every layer keeps the first tokens, the attention sinks, and the last ones.
#include "methods/budget.h"
#include "methods/params_check.h"
#include "methods/registry.h"
#include "methods/rolling_eviction.h"

namespace fastkv {

extern const MethodEntry streamingllm_method;

namespace {

MethodParams resolve_streamingllm(const MethodParams& params, const HyperParams&) {
    refuse_foreign(params, streamingllm_method.info, "which scores nothing");
    MethodParams resolved = params;
    resolved.sinks = checked_at_least(params.sinks.value_or(4), 0, "--sinks");
    resolved.streaming = params.streaming.value_or(Streaming::original);
    resolve_budget(resolved);
    if (resolved.budget && *resolved.budget <= *resolved.sinks) {
        refuse("--budget " + std::to_string(*resolved.budget) + " is not above --sinks " +
               std::to_string(*resolved.sinks) + ", which it includes");
    }
    return resolved;
}

LayerPlan plan_streamingllm(const MethodParams& params, const PlanPoint& at) {
    LayerPlan plan;
    const int count = rate_or_budget(params, at.n_rows);
    const int sinks = *params.sinks;
    // A prompt so short that only sinks would be left is kept.
    if (count > sinks && count < at.n_rows) plan.keep = KeepPlan{.count = count, .sinks = sinks, .tail = count - sinks};
    return plan;
}

std::unique_ptr<Eviction> streamingllm_eviction(const MethodParams& params, const HyperParams&, int, int n_prompt) {
    const int budget = rate_or_budget(params, n_prompt);
    if (*params.streaming != Streaming::rolling || budget <= *params.sinks) return nullptr;
    return rolling_eviction(*params.sinks, budget);
}

}  // namespace

const MethodEntry streamingllm_method = {
    {"streamingllm",
     "the first and the last tokens in all layers",
     "Xiao et al. 2023, StreamingLLM, arXiv 2309.17453",
     {"retain_rate", "budget", "sinks", "streaming"}},
    resolve_streamingllm,
    plan_streamingllm,
    streamingllm_eviction,
};

}  // namespace fastkv
