// fastkv bench: how fast methods read and decode, and what memory they take.
#pragma once

#include <string>
#include <vector>

#include "cli/method_list.h"
#include "cli/options.h"

namespace fastkv::cli {

/// How rows are printed.
enum class BenchOutput { md, csv, json, jsonl };

struct BenchOptions {
    ModelOptions model;
    MethodListOptions methods;
    std::vector<int> n_prompt = {1000};
    std::vector<int> n_gen = {32};
    std::vector<int> n_depth = {0};
    std::vector<int> n_threads = {0};
    std::vector<int> repetitions = {5};
    bool no_warmup = false;
    uint64_t seed = 1;
    std::string tokens_file;  ///< "": random tokens
    BenchOutput output = BenchOutput::md;
};

void add_bench_command(CLI::App& app, BenchOptions& options);

/// Returns the exit code: 0, 1 where a row failed (which the row says), 130 where it was interrupted, after printing
/// what had been measured. Throws Error for everything else.
int bench_command(const BenchOptions& options);

}  // namespace fastkv::cli
