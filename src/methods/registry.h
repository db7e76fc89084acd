// The table of methods: a new one is a file beside this and a line in registry.cpp.
#pragma once

#include <memory>

#include "fastkv/method.h"
#include "methods/eviction.h"
#include "methods/plan.h"

namespace fastkv {

struct MethodEntry {
    MethodInfo info;

    /// Fills in the defaults for this model and refuses what does not fit. Throws Error(usage).
    MethodParams (*resolve)(const MethodParams& params, const HyperParams& hparams);

    /// The plan of one layer. `params` are resolved.
    LayerPlan (*plan)(const MethodParams& params, const PlanPoint& at);

    /// What is dropped from a layer's cache while the answer grows; nullptr where the method keeps everything, or
    /// with these `params` does. One object per layer. `n_prompt` as the layer's last pass had it.
    std::unique_ptr<Eviction> (*eviction)(const MethodParams& params, const HyperParams& hparams, int layer,
                                          int n_prompt) = nullptr;

    /// Whether the defaults for this model count on keys of 8 bits and values of 4, of which two and a half times as
    /// many take the bytes of float16 ones; nullptr where they never do.
    bool (*counts_on_blocks)(const HyperParams& hparams) = nullptr;
};

/// Throws Error(usage), listing the methods, if there is none of that name.
const MethodEntry& find_method(const std::string& name);

}  // namespace fastkv
