// What the report knows of each evaluation: its tables, and what they come to for a method.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "eval/row.h"
#include "eval/summary.h"

namespace fastkv::report {

/// Whether `name` is one of fastkv eval's: needle, ruler, longbench, compare, oracle.
bool is_evaluation(const std::string& name);

/// Throws Error or Json::exception where the evaluation cannot have written this row.
void check_row(const std::string& evaluation, const eval::Row& row);

/// As fastkv eval prints them.
std::vector<eval::Table> tables_of(const std::string& evaluation, const std::vector<eval::Row>& rows);

/// What the score of an evaluation is: "score", "tokens that agree with FullKV's".
std::string score_name(const std::string& evaluation);

/// What one setting reached in an evaluation, beside FullKV.
struct Standing {
    std::string method, setting;
    eval::Cell score;                      ///< tasks and lengths weigh alike
    std::optional<eval::Mean> difference;  ///< of the score from FullKV's, on the prompts that both answered; nothing
                                           ///< for FullKV itself, and where FullKV is the measure
    double prefill_seconds = 0;            ///< means over what was answered
    double decode_seconds = 0;
    double kv_cache_bytes = 0;
    std::optional<double> speedup;      ///< FullKV's seconds over its own, on the prompts that both answered
    std::optional<double> cache_share;  ///< its bytes over FullKV's, likewise
};

/// One for each setting, in the order in which they were first asked.
std::vector<Standing> standings(const std::string& evaluation, const std::vector<eval::Row>& rows);

/// What FullKV answered, by the sample's id.
using RowsById = std::map<std::string, const eval::Row*>;
RowsById full_rows(const std::vector<eval::Row>& rows);

/// All lengths of the rows, ascending; 0 where they have none.
std::vector<int> lengths_of(const std::vector<eval::Row>& rows);

/// The rows of one length.
std::vector<eval::Row> of_length(const std::vector<eval::Row>& rows, int length);

}  // namespace fastkv::report
