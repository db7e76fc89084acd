#include "eval/summary.h"

#include <algorithm>
#include <cstdio>
#include <map>

#include "text/format.h"

namespace fastkv::eval {

namespace {

using text::format;

int index_in(std::vector<std::string>& names, const std::string& name) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found != names.end()) return int(found - names.begin());
    names.push_back(name);
    return int(names.size()) - 1;
}

std::vector<std::string> columns_of(const std::vector<Row>& rows, const GroupOf& column_of,
                                    const std::vector<std::string>& order) {
    std::vector<std::string> found, columns;
    for (const Row& row : rows) index_in(found, column_of(row));
    for (const std::string& name : order) {
        if (std::find(found.begin(), found.end(), name) != found.end()) index_in(columns, name);
    }
    for (const std::string& name : found) index_in(columns, name);
    return columns;
}

// The rows of one setting.
SettingLine line_of(const std::vector<const Row*>& rows, const Table& table, const GroupOf& column_of) {
    std::vector<std::string> columns = table.columns;
    std::vector<std::vector<double>> scores(columns.size());
    SettingLine line{.method = rows[0]->method, .setting = rows[0]->setting, .cells = {}};
    line.cells.resize(columns.size());
    int n = 0;
    for (const Row* row : rows) {
        const auto column = size_t(index_in(columns, column_of(*row)));
        if (row->failed()) {
            ++line.cells[column].n_failed;
            continue;
        }
        scores[column].push_back(row->score);
        line.prefill_seconds += row->prefill_seconds;
        line.decode_seconds += row->decode_seconds;
        line.kv_cache_bytes += double(row->kv_cache_bytes);
        ++n;
    }
    for (double* mean : {&line.prefill_seconds, &line.decode_seconds, &line.kv_cache_bytes}) *mean /= std::max(1, n);
    for (size_t i = 0; i < columns.size(); ++i) line.cells[i].score = mean_of(scores[i]);
    return line;
}

std::string cell_text(const Cell& cell, const Table& table) {
    std::string result;
    const auto& [n, mean, interval] = cell.score;
    if (n > 0) result = format("%.*f", table.digits, table.scale * mean);
    if (n > 0 && interval.low < interval.high) {
        result += format(" (%.*f to %.*f)", table.digits - 1, table.scale * interval.low, table.digits - 1,
                         table.scale * interval.high);
    }
    if (cell.n_failed > 0) result += format("%s%d failed", result.empty() ? "" : ", ", cell.n_failed);
    return result;
}

}  // namespace

Cell mean_of_cells(const std::vector<Cell>& cells, MeanOfMeans mean) {
    Cell all;
    std::vector<Mean> means;
    for (const Cell& cell : cells) {
        means.push_back(cell.score);
        all.n_failed += cell.n_failed;
    }
    all.score = mean(means);
    return all;
}

Table table_of(const std::vector<Row>& rows, const std::string& title, const GroupOf& column_of,
               const std::vector<std::string>& order) {
    Table table{.title = title, .columns = columns_of(rows, column_of, order), .lines = {}};
    std::vector<std::string> settings;
    std::vector<std::vector<const Row*>> by_setting;
    for (const Row& row : rows) {
        const auto setting = size_t(index_in(settings, row.setting));
        by_setting.resize(settings.size());
        by_setting[setting].push_back(&row);
    }
    for (const auto& of_setting : by_setting) table.lines.push_back(line_of(of_setting, table, column_of));
    if (table.columns.size() > 1) {
        table.columns.push_back("mean");
        for (SettingLine& line : table.lines) line.cells.push_back(mean_of_cells(line.cells));
    }
    return table;
}

namespace {

// "fastkv --retain-rate 0.1 --window 8" as {"fastkv", "--retain-rate 0.1", "--window 8"}.
std::vector<std::string> parts_of(const std::string& setting) {
    std::vector<std::string> parts;
    size_t from = 0;
    for (size_t at = setting.find(" --"); from != std::string::npos; at = setting.find(" --", from)) {
        parts.push_back(setting.substr(from, at - from));
        from = at == std::string::npos ? at : at + 1;
    }
    return parts;
}

}  // namespace

std::vector<std::string> short_names(const std::vector<std::string>& settings) {
    std::map<std::string, int> n_of_method;
    std::map<std::pair<std::string, std::string>, int> n_of_part;
    for (const std::string& setting : settings) {
        const auto parts = parts_of(setting);
        ++n_of_method[parts[0]];
        for (const std::string& part : parts) ++n_of_part[{parts[0], part}];
    }
    std::vector<std::string> names;
    for (const std::string& setting : settings) {
        const auto parts = parts_of(setting);
        std::string name = parts[0];
        for (size_t i = 1; i < parts.size(); ++i) {
            if (n_of_part[{parts[0], parts[i]}] < n_of_method[parts[0]]) name.append(" ").append(parts[i]);
        }
        names.push_back(std::move(name));
    }
    return names;
}

std::vector<std::pair<std::string, std::string>> setting_names(const std::vector<Row>& rows) {
    std::vector<std::string> settings;
    for (const Row& row : rows) index_in(settings, row.setting);
    const std::vector<std::string> names = short_names(settings);
    std::vector<std::pair<std::string, std::string>> pairs;
    for (size_t i = 0; i < names.size(); ++i) pairs.emplace_back(settings[i], names[i]);
    return pairs;
}

namespace {

using Grid = std::vector<std::vector<std::string>>;  // [lines][columns]

// Columns that would make lines longer than a screen become lines.
Grid turned(const Grid& grid) {
    Grid other(grid[0].size(), std::vector<std::string>(grid.size()));
    for (size_t line = 0; line < grid.size(); ++line) {
        for (size_t column = 0; column < grid[line].size(); ++column) other[column][line] = grid[line][column];
    }
    return other;
}

// Markdown, in columns: the first to the left, the others to the right.
std::string grid_text(const Grid& grid) {
    std::vector<size_t> widths(grid[0].size(), 3);
    for (const auto& line : grid) {
        for (size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
    }
    std::string result;
    for (size_t at = 0; at < grid.size(); ++at) {
        for (size_t i = 0; i < widths.size(); ++i) {
            const std::string& cell = grid[at][i];
            const std::string padding(widths[i] - cell.size(), ' ');
            result.append("| ").append(i == 0 ? cell + padding : padding + cell).append(" ");
        }
        result += "|\n";
        if (at > 0) continue;
        for (size_t i = 0; i < widths.size(); ++i) {
            result.append("|").append(i == 0 ? "-" : "").append(widths[i] + 1, '-').append(i == 0 ? "" : ":");
        }
        result += "|\n";
    }
    return result;
}

// Nothing where nothing was measured: all samples failed, or the evaluation only reads.
std::string measured_text(const char* number, double value) { return value > 0 ? format(number, value) : ""; }

Grid grid_of(const Table& table) {
    Grid grid(1, {"method"});
    for (const std::string& column : table.columns) grid[0].push_back(column);
    for (const char* column : {"prefill", "decode", "cache"}) grid[0].emplace_back(column);
    std::vector<std::string> settings;
    for (const SettingLine& line : table.lines) settings.push_back(line.setting);
    const std::vector<std::string> names = short_names(settings);
    for (size_t i = 0; i < names.size(); ++i) {
        const SettingLine& line = table.lines[i];
        grid.push_back({names[i]});
        for (const Cell& cell : line.cells) grid.back().push_back(cell_text(cell, table));
        grid.back().push_back(measured_text("%.2f s", line.prefill_seconds));
        grid.back().push_back(measured_text("%.2f s", line.decode_seconds));
        grid.back().push_back(measured_text("%.1f MiB", line.kv_cache_bytes / (1 << 20)));
    }
    return grid;
}

}  // namespace

std::string table_text(const Table& table) {
    constexpr size_t most_columns = 9;
    const Grid grid = grid_of(table);
    const bool turns = grid[0].size() > most_columns && grid[0].size() > grid.size();
    return (table.title.empty() ? "" : table.title + "\n\n") + grid_text(turns ? turned(grid) : grid);
}

Json table_json(const Table& table) {
    Json json;
    json["title"] = table.title;
    json["columns"] = table.columns;
    json["settings"] = Json::array();
    for (const SettingLine& line : table.lines) {
        Json cells = Json::array();
        for (const Cell& cell : line.cells) {
            Json of_cell = {{"n", cell.score.n}};
            if (cell.score.n > 0) {
                of_cell["score"] = cell.score.mean;
                of_cell["interval"] = {cell.score.interval.low, cell.score.interval.high};
            }
            if (cell.n_failed > 0) of_cell["n_failed"] = cell.n_failed;
            cells.push_back(std::move(of_cell));
        }
        json["settings"].push_back({{"method", line.method},
                                    {"setting", line.setting},
                                    {"cells", std::move(cells)},
                                    {"prefill_seconds", line.prefill_seconds},
                                    {"decode_seconds", line.decode_seconds},
                                    {"kv_cache_bytes", line.kv_cache_bytes}});
    }
    return json;
}

}  // namespace fastkv::eval
