// Tests of several methods, run in turns: a machine that is slower for a while is so for all of them.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "bench/measure.h"
#include "bench/methods.h"

namespace fastkv::bench {

/// One row of the result: a test of one method, and what came of it.
struct Row {
    NamedMethod method;  ///< with every parameter resolved
    Test test;
    int n_threads = 0;
    int repetitions = 5;          ///< how often it is to be run
    std::string type_k, type_v;   ///< how the method stores keys and values: "f16"
    std::string test_time;        ///< when it was first run, ISO 8601, UTC; "" before
    std::vector<Sample> samples;  ///< one for each repetition
    std::string error;            ///< why it could not be run; "": it could

    std::vector<double> prefill_seconds() const;
    std::vector<double> decode_seconds() const;
    /// Both together: what the reference calls end to end.
    std::vector<double> end_to_end_seconds() const;
    uint64_t peak_rss_bytes() const;  ///< the highest of all samples
};

struct ComparisonParams {
    std::string model_path;
    ModelParams model;  ///< its n_threads is each row's
    SessionParams session;
    std::vector<Token> tokens;  ///< of prompts and answers, from the first; as many as the longest test takes
    bool warmup = true;
};

/// How far a comparison has come. Before anything was measured of a row, nobody knows how long it takes.
struct ComparisonProgress {
    int repetition = 0;  ///< from 0; -1 while warming up
    const Row* row = nullptr;
    std::optional<double> seconds_left;
};

/// Called over and over, also within a run. Returning false ends the comparison.
using ComparisonWatch = std::function<bool(const ComparisonProgress&)>;

/// Runs every row once, then every row that wants more runs once more, and so on, into `rows`. Rows of one number of
/// threads stand together; with several numbers the model is loaded anew for each of them in each repetition, so that
/// it is in memory once. Every loading is followed by a run of each method's shortest test that does not count. A row
/// that fails keeps its error and is not run again. Returns false where `watch` ended it; the rows keep what was
/// measured by then.
bool run_comparison(const ComparisonParams& params, std::vector<Row>& rows, const ComparisonWatch& watch);

}  // namespace fastkv::bench
