// fastkv eval: what a method costs in answers, by tasks that others use too.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "cli/method_list.h"
#include "cli/options.h"
#include "eval/evaluation.h"
#include "eval/runner.h"

namespace fastkv::cli {

/// What all evaluations share.
struct EvalOptions {
    ModelOptions model;
    MethodListOptions methods;
    std::string data;               ///< --data; "": the evaluation's own
    std::optional<int> limit;       ///< --limit
    std::string folder;             ///< -o; "": default_folder()
    std::optional<int> max_prompt;  ///< --max-prompt
    bool retry_failed = false;
    std::string command;          ///< as it was typed, for the summary
    std::function<int()> chosen;  ///< the evaluation that was chosen, set while parsing
};

/// `fastkv eval` and its evaluations.
void add_eval_command(CLI::App& app, EvalOptions& options);

/// The flags of EvalOptions; `data_help` and `limit_help` say what these two mean.
void add_eval_options(CLI::App& command, EvalOptions& options, const std::string& data_help,
                      const std::string& limit_help);

/// One per evaluation: its subcommand, which sets `options.chosen`.
void add_eval_needle(CLI::App& eval, EvalOptions& options);
void add_eval_ruler(CLI::App& eval, EvalOptions& options);
void add_eval_longbench(CLI::App& eval, EvalOptions& options);
void add_eval_compare(CLI::App& eval, EvalOptions& options);
void add_eval_oracle(CLI::App& eval, EvalOptions& options);

/// --protocol of the evaluations whose prompts the reference cuts in a way of its own; `set` is given the choice.
void add_truncation_option(CLI::App& command, std::function<void(eval::Truncation)> set);

/// Asks, keeps and prints; goes on in a folder that has some of it. Returns the exit code: 0, or 1 where samples
/// failed. Throws Error, cancelled after Ctrl-C, with everything that was answered kept.
int run_eval(const EvalOptions& options, const Model& model, const eval::Measurement& evaluation,
             eval::Truncation truncation = eval::Truncation::message);

}  // namespace fastkv::cli
