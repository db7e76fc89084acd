// GemFilter (arXiv 2409.17422): the lower layers choose tokens for the last one, and these alone are read again, by all
// layers, as a prompt of their own.
#include <algorithm>

#include "methods/budget.h"
#include "methods/params_check.h"
#include "methods/registry.h"

namespace fastkv {

extern const MethodEntry gemfilter_method;

namespace {

// Published: 13 of 32 layers (Llama-3.1-8B), 17 of 36 (Ministral-8B), 19 of 40 (Mistral-Nemo). Of the deeper models it
// is the last layer of the lower half, of the others it lies as deep as in Llama.
int default_filter_layer(int n_layer) { return n_layer <= 32 ? n_layer * 13 / 32 : n_layer / 2 - 1; }

MethodParams resolve_gemfilter(const MethodParams& params, const HyperParams& hparams) {
    refuse_foreign(params, gemfilter_method.info, "which chooses tokens once, for all layers, by its last query");
    MethodParams resolved = params;
    resolve_budget(resolved);
    resolved.filter_layer = checked_layer(params.filter_layer.value_or(default_filter_layer(hparams.n_layer)),
                                          hparams.n_layer, "--filter-layer");
    return resolved;
}

LayerPlan plan_gemfilter(const MethodParams& params, const PlanPoint& at) {
    LayerPlan plan;
    const int count = rate_or_budget(params, at.n_prompt);
    // Where nothing is to be dropped, or nothing would be left, the prompt is read once, as by fullkv.
    if (at.pass > 0 || count >= at.n_prompt || count < 1) return plan;

    plan.keep = KeepPlan{.count = 0};
    if (at.layer == *params.filter_layer) {
        // The kernel is the paper's, whatever other methods use.
        plan.score =
            ScorePlan{.n_query = 1, .tail = 0, .kind = ScoreKind::product, .kernel = 5, .pooling = Pooling::avg};
        plan.propagate = PropagatePlan{.count = count, .restart = true};
    }
    return plan;
}

}  // namespace

const MethodEntry gemfilter_method = {
    {"gemfilter",
     "the lower layers choose tokens, and all layers read these alone",
     "Shi et al. 2024, GemFilter, arXiv 2409.17422",
     {"retain_rate", "budget", "filter_layer"}},
    resolve_gemfilter,
    plan_gemfilter,
};

}  // namespace fastkv
