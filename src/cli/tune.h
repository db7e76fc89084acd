// fastkv tune: chooses FastKV's parameters for a model, or measures one setting.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/options.h"
#include "tune/prompts.h"
#include "tune/settings.h"

namespace fastkv::cli {

struct TuneOptions {
    ModelOptions model;
    MethodOptions method;

    // the questions
    std::vector<std::string> files;  ///< -f; none: generated text
    std::string rows;                ///< --rows; "": generated questions
    std::vector<int> lengths = {1000, 2000};
    std::vector<tune::Task> tasks = {tune::Task::number};
    std::optional<int> n_prompts;
    std::optional<int> n_predict;
    uint64_t seed = 1;
    bool raw = false;

    // the search
    std::optional<double> max_work, max_cache;
    std::vector<tune::Dimension> tries;
    std::optional<int> n_settings;
    bool no_store = false;
    std::string plot;

    // one setting
    bool check = false;
    bool no_full = false;

    std::string answers;
    std::string output;  ///< md, json; "": md, of --check json
};

void add_tune_command(CLI::App& app, TuneOptions& options);

/// Returns the exit code: 0, or 1 where no setting within the limits is good enough. Throws Error for everything else.
int tune_command(const TuneOptions& options);

}  // namespace fastkv::cli
