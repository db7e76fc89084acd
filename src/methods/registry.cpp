// The methods, in the order of the documentation.
#include "methods/registry.h"

#include "fastkv/error.h"

namespace fastkv {

extern const MethodEntry fullkv_method;
extern const MethodEntry fastkv_method;
extern const MethodEntry snapkv_method;
extern const MethodEntry streamingllm_method;
extern const MethodEntry h2o_method;
extern const MethodEntry gemfilter_method;
extern const MethodEntry pyramidinfer_method;

namespace {

const MethodEntry* const methods[] = {
    &fullkv_method, &fastkv_method,    &snapkv_method,       &streamingllm_method,
    &h2o_method,    &gemfilter_method, &pyramidinfer_method,
};

}  // namespace

const MethodEntry& find_method(const std::string& name) {
    std::string known;
    for (const MethodEntry* method : methods) {
        if (method->info.name == name) return *method;
        known += (known.empty() ? "" : ", ") + method->info.name;
    }
    refuse("--method " + name + " is unknown; there are: " + known);
}

std::vector<MethodInfo> list_methods() {
    std::vector<MethodInfo> infos;
    for (const MethodEntry* method : methods) infos.push_back(method->info);
    return infos;
}

MethodParams resolve(const MethodParams& params, const HyperParams& hparams) {
    return find_method(params.method).resolve(params, hparams);
}

}  // namespace fastkv
