// The parts of the page about one model, from top to bottom.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "report/evaluations.h"
#include "report/html.h"
#include "report/names.h"
#include "report/results.h"

namespace fastkv::report {

/// "needle (runs/needle-a)": an evaluation with the folder that tells it from others.
std::string title_of(const Evaluation& evaluation);
std::string title_of(const Bench& bench);

/// What was run, when, on what; all settings on demand.
void put_runs(Html& html, const Model& model, const SettingNames& names);

/// Methods by evaluations: scores, differences, seconds, bytes.
void put_summary(Html& html, const Model& model, const SettingNames& names);

/// What the settings of an evaluation reached, by length: 0 where it has none.
using StandingsByLength = std::map<int, std::vector<Standing>>;

/// Accuracy against time and memory, for every length of an evaluation.
void put_tradeoffs(Html& html, const StandingsByLength& by_length, const SettingNames& names);

/// Everything about one evaluation.
void put_evaluation(Html& html, const Evaluation& evaluation, const std::string& anchor, const SettingNames& names);

/// Tables and curves of one file of fastkv bench.
void put_bench(Html& html, const Bench& bench, const std::string& anchor, const SettingNames& names);

}  // namespace fastkv::report
