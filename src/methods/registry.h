// The table of methods: a new one is a file beside this and a line in registry.cpp.
#pragma once

#include "fastkv/method.h"
#include "methods/plan.h"

namespace fastkv {

struct MethodEntry {
    MethodInfo info;

    /// Fills in the defaults for this model and refuses what does not fit. Throws Error(usage).
    MethodParams (*resolve)(const MethodParams& params, const HyperParams& hparams);

    /// The plan of `layer` (from 0) when `n_rows` of the prompt's `n_prompt` tokens reach it. `params` are resolved.
    LayerPlan (*plan)(const MethodParams& params, int layer, int n_prompt, int n_rows);
};

/// Throws Error(usage), listing the methods, if there is none of that name.
const MethodEntry& find_method(const std::string& name);

}  // namespace fastkv
