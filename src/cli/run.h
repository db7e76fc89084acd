// fastkv run: reads a document, answers a question about it.
#pragma once

#include "cli/options.h"
#include "cli/prompt_input.h"

namespace fastkv::cli {

struct RunOptions {
    ModelOptions model;
    PromptOptions prompt;
    MethodOptions method;
    SamplerParams sampler;
    std::string trace;
    int n_predict = 512;  ///< -1: until the answer ends or the context is full
    bool verbose = false;
    bool hide_prompt = false;
};

void add_run_command(CLI::App& app, RunOptions& options);

/// Returns the exit code: 0, or 130 where the answer was interrupted. Throws Error for everything else.
int run(const RunOptions& options);

}  // namespace fastkv::cli
