// PyramidInfer (arXiv 2405.12532): every layer passes on a little less of the context than it got, chosen by the last
// tokens, and caches what reaches it.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "methods/budget.h"
#include "methods/params_check.h"
#include "methods/pyramid_eviction.h"
#include "methods/registry.h"

namespace fastkv {

extern const MethodEntry pyramidinfer_method;

namespace {

// The reference's files: one for each model and share of the cache that it is meant to leave.
struct Preset {
    const char* name;
    double recent, decay;
};

constexpr Preset presets[] = {
    {"llama-0.35", 0.01, 0.01},     {"llama-0.5", 0.2, 0.3},      {"llama-0.6", 0.2, 0.7},
    {"ministral-0.35", 0.01, 0.01}, {"ministral-0.6", 0.2, 0.75}, {"nemo-0.6", 0.2, 0.78},
};

std::string preset_names() {
    std::string names;
    for (const Preset& preset : presets) names += (names.empty() ? "" : ", ") + std::string(preset.name);
    return names;
}

const Preset& find_preset(const std::string& name) {
    const auto found =
        std::find_if(std::begin(presets), std::end(presets), [&](const Preset& p) { return p.name == name; });
    if (found == std::end(presets)) refuse("--pyramid-preset " + name + " is unknown; there are: " + preset_names());
    return *found;
}

// The recent tokens are so many and one more.
double checked_recent(double share) {
    if (!(share >= 0 && share < 1)) refuse("--pyramid-recent " + number_text(share) + " is outside [0, 1)");
    return share;
}

MethodParams resolve_pyramidinfer(const MethodParams& params, const HyperParams&) {
    const std::string schedule =
        "by pyramidinfer, whose schedule decides; --pyramid-preset chooses one: " + preset_names();
    refuse_unused(params.retain_rate, "--retain-rate", schedule);
    refuse_unused(params.budget, "--budget", schedule);
    refuse_foreign(params, pyramidinfer_method.info, "which drops tokens from layer to layer by its own schedule");

    MethodParams resolved = params;
    resolved.pyramid_preset = params.pyramid_preset.value_or("llama-0.6");
    const Preset& preset = find_preset(*resolved.pyramid_preset);
    resolved.sinks = checked_at_least(params.sinks.value_or(4), 0, "--sinks");
    resolved.pyramid_recent = checked_recent(params.pyramid_recent.value_or(preset.recent));
    resolved.pyramid_decay = checked_share(params.pyramid_decay.value_or(preset.decay), "--pyramid-decay");
    resolved.pyramid_min_context =
        checked_at_least(params.pyramid_min_context.value_or(64), 0, "--pyramid-min-context");
    resolved.pyramid_distance_weight =
        checked_positive(params.pyramid_distance_weight.value_or(1.2), "--pyramid-distance-weight");
    resolved.pyramid_decode = params.pyramid_decode.value_or(PyramidDecode::guarded);
    resolved.pyramid_decode_keep = checked_rate(params.pyramid_decode_keep.value_or(0.9), "--pyramid-decode-keep");
    resolved.pyramid_decode_block =
        checked_at_least(params.pyramid_decode_block.value_or(16), 1, "--pyramid-decode-block");
    return resolved;
}

// The share of its context that a layer passes on: 1 in the first, falling along a cosine towards the decay. It
// multiplies up from layer to layer.
double passed_share(const MethodParams& params, const PlanPoint& at) {
    const double decay = *params.pyramid_decay;
    return decay + (1 - decay) * (std::cos(std::numbers::pi * at.layer / at.n_layer) + 1) / 2;
}

// Of the context, which are the rows before the last 1 + R; a small one is passed on whole.
int passed_context(const MethodParams& params, const PlanPoint& at, int n_recent) {
    const int context = at.n_rows - n_recent;
    const int min_context = std::min(*params.pyramid_min_context, at.n_prompt - n_recent);
    const double share = passed_share(params, at);
    if (context <= min_context || share >= 1) return context;
    const int passed = truncated(context, share);
    return passed <= std::max(min_context, *params.sinks) ? context : passed;
}

LayerPlan plan_pyramidinfer(const MethodParams& params, const PlanPoint& at) {
    LayerPlan plan;
    const int n_recent = 1 + truncated(at.n_prompt, *params.pyramid_recent);
    const int context = at.n_rows - n_recent;
    const int passed = passed_context(params, at, n_recent);
    // Of the last layer's rows nothing is asked any more.
    if (passed >= context || at.layer == at.n_layer - 1) return plan;

    plan.score = ScorePlan{.n_query = n_recent, .tail = n_recent, .last_weight = *params.pyramid_distance_weight};
    plan.propagate = PropagatePlan{.count = passed + n_recent, .sinks = *params.sinks, .tail = n_recent};
    return plan;
}

std::unique_ptr<Eviction> pyramidinfer_eviction(const MethodParams& params, const HyperParams& hparams, int layer,
                                                int n_prompt) {
    return pyramid_eviction({.variant = *params.pyramid_decode,
                             .layer = layer,
                             .n_layer = hparams.n_layer,
                             .n_prompt = n_prompt,
                             .recent = *params.pyramid_recent,
                             .distance_weight = *params.pyramid_distance_weight,
                             .keep = *params.pyramid_decode_keep,
                             .block = *params.pyramid_decode_block,
                             .sinks = *params.sinks});
}

}  // namespace

const MethodEntry pyramidinfer_method = {
    {"pyramidinfer",
     "every layer passes on fewer tokens than it got, and caches what it got",
     "Yang et al. 2024, PyramidInfer, arXiv 2405.12532",
     {"sinks", "pyramid_preset", "pyramid_recent", "pyramid_decay", "pyramid_min_context", "pyramid_distance_weight",
      "pyramid_decode", "pyramid_decode_keep", "pyramid_decode_block"}},
    resolve_pyramidinfer,
    plan_pyramidinfer,
    pyramidinfer_eviction,
};

}  // namespace fastkv
