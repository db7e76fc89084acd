// The one place that lists the flags for the model, the method and the sampling, so that all commands share them.
#pragma once

#include <CLI/CLI.hpp>

#include <string>
#include <vector>

#include "fastkv/fastkv.h"

namespace fastkv::cli {

/// More than any machine has: a slip of the finger.
constexpr int max_threads = 1024;

struct ModelOptions {
    std::string path;
    ModelParams params;
    int n_ctx = 0;  ///< 0: the model's
    CacheType cache_type_k = CacheType::automatic;
    CacheType cache_type_v = CacheType::automatic;
};

struct MethodOptions {
    MethodParams params;  ///< as given
    bool no_tuned = false;
};

void add_model_options(CLI::App& app, ModelOptions& options);
/// All of them but -t.
void add_model_options_but_threads(CLI::App& app, ModelOptions& options);
void add_method_options(CLI::App& app, MethodOptions& options);
void add_sampling_options(CLI::App& app, SamplerParams& params);

/// The arguments as CLI11 can read them: llama.cpp's short names of several letters (-ngl) become long ones.
std::vector<std::string> long_names(int argc, char** argv);

/// The command as it was typed, quoted where a shell would need it.
std::string command_line(int argc, char** argv);

/// That short name of a long one, or "".
std::string short_name(const std::string& long_name);

/// Lengths in tokens: "1000,4000", or ranges as parse_number_list() reads them. Throws Error(usage).
std::vector<int> parse_lengths(const std::string& flag, const std::string& text);

/// "f16", "auto".
std::string cache_type_name(CacheType type);

std::string compute_name(Compute compute);
std::string ops_name(Ops ops);

}  // namespace fastkv::cli
