// FullKV: every token goes through every layer and stays in the cache. What the others are measured against.
#include "methods/params_check.h"
#include "methods/registry.h"

namespace fastkv {

namespace {

MethodParams resolve_fullkv(const MethodParams& params, const HyperParams&) {
    const std::string by = "by fullkv, which keeps everything";
    refuse_unused(params.retain_rate, "--retain-rate", by);
    refuse_unused(params.tsp_rate, "--tsp-rate", by);
    refuse_unused(params.tsp_layer, "--tsp-layer", by);
    refuse_unused(params.window, "--window", by);
    refuse_unused(params.kernel, "--kernel", by);
    refuse_unused(params.pooling, "--pooling", by);
    refuse_unused(params.budget, "--budget", by);
    refuse_unused(params.tsp_len, "--tsp-len", by);
    return params;
}

LayerPlan plan_fullkv(const MethodParams&, const PlanPoint&) { return {}; }

}  // namespace

extern const MethodEntry fullkv_method;
const MethodEntry fullkv_method = {
    {"fullkv", "every token through every layer, all of them cached", "Vaswani et al. 2017, arXiv 1706.03762"},
    resolve_fullkv,
    plan_fullkv,
};

}  // namespace fastkv
