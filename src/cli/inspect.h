// fastkv inspect: a model's facts, and what each method would cost.
#pragma once

#include <vector>

#include "cli/options.h"

namespace fastkv::cli {

struct InspectOptions {
    ModelOptions model;
    MethodOptions method;
    std::vector<int> lengths;  ///< prompts, in tokens; empty: a few up to the model's context
};

void add_inspect_command(CLI::App& app, InspectOptions& options);
int inspect(const InspectOptions& options);

}  // namespace fastkv::cli
