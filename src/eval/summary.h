// Rows become tables: one line per setting, one column per group of samples.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "eval/row.h"
#include "eval/statistics.h"

namespace fastkv::eval {

/// The samples of one setting and group.
struct Cell {
    Mean score;        ///< of those that were answered
    int n_failed = 0;  ///< of the others
};

/// What one setting reached.
struct SettingLine {
    std::string method, setting;
    std::vector<Cell> cells;     ///< [columns] of its table
    double prefill_seconds = 0;  ///< means over the answered samples; 0 where nothing was measured
    double decode_seconds = 0;
    double kv_cache_bytes = 0;
};

struct Table {
    std::string title;                 ///< "4,000 tokens"; "": the only one
    std::vector<std::string> columns;  ///< "niah_single_1", ..., "mean"
    std::vector<SettingLine> lines;    ///< by setting, in the order in which they were first asked
    double scale = 100;                ///< cells are shown times this: scores in percent
    int digits = 1;                    ///< behind the point; one fewer in intervals
};

/// The group of a row: a column's name, or a table's title.
using GroupOf = std::function<std::string(const Row&)>;

/// Columns in the order of `order`, those that it does not name behind them as they come; the last column, where there
/// is more than one, is the mean of the columns ("mean").
Table table_of(const std::vector<Row>& rows, const std::string& title, const GroupOf& column_of,
               const std::vector<std::string>& order = {});

using MeanOfMeans = Mean (*)(const std::vector<Mean>&);

/// The mean of several cells, each weighing the same.
Cell mean_of_cells(const std::vector<Cell>& cells, MeanOfMeans mean = mean_of_means);

/// A short name for each setting: its method, and of its parameters those in which it differs from the others of the
/// same method: "fastkv --retain-rate 0.2".
std::vector<std::string> short_names(const std::vector<std::string>& settings);

/// The settings of `rows`, each once as they come, with their short names.
std::vector<std::pair<std::string, std::string>> setting_names(const std::vector<Row>& rows);

/// Markdown: settings by their short names, scores in percent with their intervals of 95 %. A table of many columns has
/// them as lines.
std::string table_text(const Table& table);

Json table_json(const Table& table);

}  // namespace fastkv::eval
