// Rows of fastkv bench, read back.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "eval/row.h"

namespace fastkv::report {

/// What repetitions came to.
struct Timing {
    double median = 0, stddev = 0;
};

/// One line of fastkv bench -o jsonl.
struct BenchRow {
    std::string method;
    std::string setting;  ///< the method and all its parameters, as method_text() writes them
    int n_prompt = 0, n_gen = 0, n_depth = 0, n_threads = 0, repetitions = 0;
    /// Nothing where the test has no such part, or failed.
    std::optional<Timing> prefill_seconds, prefill_tps, decode_tps, end_to_end_seconds, end_to_end_tps;
    std::optional<double> kv_cache_bytes, peak_rss_bytes;
    std::string error;  ///< not empty: it failed
    eval::Json facts;   ///< of model, machine and version: the same in all rows of one run but for the time

    /// "pp1000+tg32 @ d512", as llama-bench names a test.
    std::string test() const;
};

/// Whether an object is one by its keys.
bool is_bench_row(const eval::Json& json);

/// Throws Json::exception or Error where a value is not what it should be.
BenchRow bench_row_of(const eval::Json& json);

}  // namespace fastkv::report
