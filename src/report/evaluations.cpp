#include "report/evaluations.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "eval/compare.h"
#include "eval/longbench.h"
#include "eval/needle.h"
#include "eval/oracle.h"
#include "eval/ruler.h"
#include "fastkv/error.h"

namespace fastkv::report {

namespace {

using eval::Cell;
using eval::Row;
using eval::Table;

void check_share(const std::vector<double>& values, const std::string& name) {
    if (values.empty()) fail("\"" + name + "\" is empty");
    for (const double value : values) {
        if (!(value >= 0 && value <= 1)) fail("\"" + name + "\" is no list of shares");
    }
}

/// A cell for each setting of what its samples come to: the last column of the evaluation's table over all lengths, or
/// the first where the columns are different measures.
std::vector<Cell> overall(const std::string& evaluation, const std::vector<Row>& rows) {
    const bool measures = evaluation == "compare" || evaluation == "oracle";
    const Table table =
        evaluation == "ruler"
            ? eval::table_of(rows, "", [](const Row& row) { return row.task + "/" + std::to_string(row.length); })
            : tables_of(evaluation, rows).at(0);
    std::vector<Cell> cells;
    for (const eval::SettingLine& line : table.lines) {
        cells.push_back(measures ? line.cells.front() : line.cells.back());
        // The last column may be a mean over sets, which nothing failed in.
        cells.back().n_failed = 0;
        for (const Row& row : rows) cells.back().n_failed += row.setting == line.setting && row.failed() ? 1 : 0;
    }
    return cells;
}

/// What is known of a setting beside FullKV.
void put_beside(Standing& standing, const std::vector<Row>& rows, const RowsById& full, bool differs) {
    std::map<std::pair<std::string, int>, std::vector<double>> differences;  // by task and length
    double own_seconds = 0, full_seconds = 0, own_bytes = 0, full_bytes = 0;
    for (const Row& row : rows) {
        const auto found = full.find(row.id);
        if (row.setting != standing.setting || row.failed() || found == full.end()) continue;
        differences[{row.task, row.length}].push_back(row.score - found->second->score);
        own_seconds += row.prefill_seconds;
        full_seconds += found->second->prefill_seconds;
        own_bytes += double(row.kv_cache_bytes);
        full_bytes += double(found->second->kv_cache_bytes);
    }
    if (own_seconds > 0 && full_seconds > 0) standing.speedup = full_seconds / own_seconds;
    if (full_bytes > 0) standing.cache_share = own_bytes / full_bytes;
    if (!differs || standing.method == "fullkv" || differences.empty()) return;
    std::vector<std::vector<double>> groups;
    for (auto& [group, values] : differences) groups.push_back(std::move(values));
    standing.difference = eval::mean_difference(groups);
}

}  // namespace

bool is_evaluation(const std::string& name) {
    static const std::set<std::string> names = {"needle", "ruler", "longbench", "compare", "oracle"};
    return names.count(name) > 0;
}

void check_row(const std::string& evaluation, const Row& row) {
    constexpr int most = 1 << 30;
    if (row.setting.empty()) fail("\"setting\" is empty");
    if (row.length < 0 || row.length > most) fail("\"length\" is no length");
    if (!(row.depth <= 100)) fail("\"depth\" is no share of the text");
    if (row.failed()) return;
    if (!(row.score >= 0 && row.score <= 1)) fail("\"score\" is not between 0 and 1");
    if (!(row.prefill_seconds >= 0) || !(row.decode_seconds >= 0)) fail("seconds are below 0");
    if (evaluation == "longbench") eval::find_longbench_set(row.task);
    if (evaluation == "oracle") {
        for (const char* key : {"kept", "best", "kept_all"}) {
            check_share(row.more.at(key).get<std::vector<double>>(), key);
        }
    }
    tables_of(evaluation, {row});  // which needs what is the evaluation's own
}

std::vector<Table> tables_of(const std::string& evaluation, const std::vector<Row>& rows) {
    if (evaluation == "needle") return eval::needle_tables(rows);
    if (evaluation == "ruler") return eval::ruler_tables(rows);
    if (evaluation == "compare") return eval::compare_tables(rows);
    if (evaluation == "oracle") return eval::oracle_tables(rows);
    std::set<int> parts;  // of LongBench-E
    for (const Row& row : rows) parts.insert(eval::longbench_e_part(row.more.value("n_words", 0)));
    return eval::longbench_tables(rows, parts.size() > 1);
}

std::string score_name(const std::string& evaluation) {
    if (evaluation == "compare") return "tokens that FullKV would say";
    if (evaluation == "oracle") return "attention on what is kept";
    return "score";
}

std::vector<Standing> standings(const std::string& evaluation, const std::vector<Row>& rows) {
    // FullKV is what these two measure with: its own score is 1 by definition.
    const bool differs = evaluation != "compare" && evaluation != "oracle";
    const RowsById full = full_rows(rows);
    const std::vector<Cell> cells = overall(evaluation, rows);
    const Table means = eval::table_of(rows, "", [](const Row&) { return ""; });
    std::vector<Standing> all;
    for (size_t i = 0; i < means.lines.size(); ++i) {
        const eval::SettingLine& line = means.lines[i];
        Standing standing{.method = line.method, .setting = line.setting, .score = cells[i], .difference = {}};
        standing.prefill_seconds = line.prefill_seconds;
        standing.decode_seconds = line.decode_seconds;
        standing.kv_cache_bytes = line.kv_cache_bytes;
        put_beside(standing, rows, full, differs);
        all.push_back(std::move(standing));
    }
    return all;
}

RowsById full_rows(const std::vector<Row>& rows) {
    RowsById full;
    for (const Row& row : rows) {
        if (row.method == "fullkv" && !row.failed()) full.emplace(row.id, &row);
    }
    return full;
}

std::vector<int> lengths_of(const std::vector<Row>& rows) {
    std::set<int> lengths;
    for (const Row& row : rows) lengths.insert(row.length);
    return {lengths.begin(), lengths.end()};
}

std::vector<Row> of_length(const std::vector<Row>& rows, int length) {
    std::vector<Row> own;
    std::copy_if(rows.begin(), rows.end(), std::back_inserter(own), [&](auto& row) { return row.length == length; });
    return own;
}

}  // namespace fastkv::report
