// Several methods and settings in one run, as commands that compare them take them.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "bench/methods.h"
#include "cli/options.h"

namespace fastkv::cli {

struct MethodListOptions {
    std::string methods = "fullkv,fastkv";
    /// Parameters for all methods that know them: names, and the values that were listed.
    std::vector<std::pair<std::string, std::vector<std::string>>> shared;
    bool no_tuned = false;
};

/// --methods, and the flags of all parameters, each with a list of values.
void add_method_list_options(CLI::App& app, MethodListOptions& options);

/// What is asked for, by names that tell it apart. `--methods` is as bench::parse_methods() reads it, or "all"; a list
/// of values of a flag makes a setting of each, in all combinations, for the methods that know it:
/// "fastkv:retain_rate=0.1". Throws Error(usage) like parse_methods().
std::vector<bench::NamedMethod> named_methods(const MethodListOptions& options);

/// Their settings, each once.
std::vector<MethodParams> method_list(const MethodListOptions& options);

/// The same with every default filled in for the model, what fastkv tune has found for it included (choose_method()),
/// and each setting once.
std::vector<MethodParams> resolved_methods(const MethodListOptions& options, const Model& model);

}  // namespace fastkv::cli
