// FullKV: every token goes through every layer and stays in the cache. What the others are measured against.
#include "methods/params_check.h"
#include "methods/registry.h"

namespace fastkv {

extern const MethodEntry fullkv_method;

namespace {

MethodParams resolve_fullkv(const MethodParams& params, const HyperParams&) {
    refuse_foreign(params, fullkv_method.info, "which keeps everything");
    return params;
}

LayerPlan plan_fullkv(const MethodParams&, const PlanPoint&) { return {}; }

}  // namespace

const MethodEntry fullkv_method = {
    {"fullkv", "every token through every layer, all of them cached", "Vaswani et al. 2017, arXiv 1706.03762", {}},
    resolve_fullkv,
    plan_fullkv,
};

}  // namespace fastkv
