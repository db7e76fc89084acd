// The parts of the page about one model, from top to bottom.
#pragma once

#include <string>

#include "report/html.h"
#include "report/names.h"
#include "report/results.h"

namespace fastkv::report {

/// "needle (runs/needle-a)": an evaluation with the folder that tells it from others.
std::string title_of(const Evaluation& evaluation);
std::string title_of(const Bench& bench);

/// What was run, when, on what; all settings on demand.
void put_runs(Html& html, const Model& model);

/// Methods by evaluations: scores, differences, seconds, bytes.
void put_summary(Html& html, const Model& model);

/// Accuracy against time and memory, for every length of an evaluation.
void put_tradeoffs(Html& html, const Evaluation& evaluation, const SettingNames& names);

/// Everything about one evaluation.
void put_evaluation(Html& html, const Evaluation& evaluation, const std::string& anchor);

/// Tables and curves of one file of fastkv bench.
void put_bench(Html& html, const Bench& bench, const std::string& anchor);

}  // namespace fastkv::report
