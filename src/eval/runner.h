// Asks every sample of an evaluation under every setting, and hands out a row for each as it comes.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "eval/evaluation.h"
#include "eval/prompt.h"
#include "fastkv/fastkv.h"

namespace fastkv::eval {

struct RunParams {
    SessionParams session;  ///< n_ctx: what prompt and answer may have together
    int max_prompt = 0;     ///< longer prompts are cut in the middle; 0: only where the context demands it
    /// With Truncation::reference h2o and pyramidinfer read no more than 7,950 tokens, as the reference, whose score
    /// matrices fill the GPU.
    Truncation truncation = Truncation::message;
};

struct RunProgress {
    int n_done = 0, n_total = 0;     ///< pairs of sample and setting in this run
    double work_done = 0, work = 0;  ///< floating-point operations, about; the pair in work counts by its share
    std::string method;              ///< of the pair in work
    std::string sample;              ///< its id
};

/// Called often; false stops the run with Error(cancelled).
using OnProgress = std::function<bool(const RunProgress&)>;

/// Samples in their order, each under all settings before the next, so that a run that is cut off has asked all
/// settings the same. Pairs whose Row::key() is in `done` are skipped. A pair that throws becomes a row with its error,
/// unless it was cancelled; samples of the same id are asked once. `settings` are resolved for the model.
void run_evaluation(const Model& model, const Measurement& evaluation, const std::vector<MethodParams>& settings,
                    const std::set<std::string>& done, const RunParams& params,
                    const std::function<void(const Row&)>& keep, const OnProgress& progress);

}  // namespace fastkv::eval
