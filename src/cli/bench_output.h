// The rows of fastkv bench as people and programs read them.
#pragma once

#include <string>
#include <vector>

#include "bench/comparison.h"
#include "cli/bench.h"

namespace fastkv::cli {

/// What all rows have in common.
struct BenchFacts {
    std::string model_path;
    std::string model_hash;  ///< as fastkv eval and tune name the file
    HyperParams hparams;
    ModelParams model;  ///< resolved
    std::string cpu;
};

/// "pp1000+tg32 @ d512", as llama-bench names a test.
std::string test_text(const bench::Test& test);

/// Prints the rows that were measured at least once, and those that failed, on stdout.
void print_rows(const std::vector<bench::Row>& rows, const BenchFacts& facts, BenchOutput output);

}  // namespace fastkv::cli
