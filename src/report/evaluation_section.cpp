// Everything about one evaluation: tables, pictures, what was lost, what failed.
#include <algorithm>
#include <map>
#include <set>

#include "eval/needle.h"
#include "eval/oracle.h"
#include "report/evaluations.h"
#include "report/sections.h"
#include "report/shown.h"
#include "text/format.h"
#include "text/numbers.h"

namespace fastkv::report {

namespace {

using eval::Row;
using text::format;

/// "87.3 (80 to 92), 1 failed", as fastkv eval prints it; the time and the bytes stand in the summary.
HtmlCell cell_of(const eval::Cell& cell, const eval::Table& table) {
    HtmlCell shown = score_cell(cell.score, table.scale, table.digits);
    const std::string interval = interval_cell(cell.score, table.scale, table.digits - 1).text;
    if (!interval.empty()) shown.text += " (" + interval + ")";
    if (cell.n_failed > 0) shown.text += format(", %d failed", cell.n_failed);
    return shown;
}

void put_eval_table(Html& html, const eval::Table& table, const SettingNames& names) {
    std::vector<eval::SettingLine> lines = table.lines;
    std::stable_sort(lines.begin(), lines.end(),
                     [&](auto& a, auto& b) { return names.place(a.setting) < names.place(b.setting); });
    HtmlLines part{"", {}};
    std::vector<std::string> columns;
    if (table.columns.size() > lines.size() + 2) {  // more tasks than methods: tasks are lines
        columns = {"task"};
        for (const eval::SettingLine& line : lines) columns.push_back(names.name(line.setting));
        for (size_t i = 0; i < table.columns.size(); ++i) {
            part.lines.push_back({{table.columns[i]}});
            for (const eval::SettingLine& line : lines) part.lines.back().push_back(cell_of(line.cells[i], table));
        }
    } else {
        columns = {"method"};
        columns.insert(columns.end(), table.columns.begin(), table.columns.end());
        for (const eval::SettingLine& line : lines) {
            part.lines.push_back({{names.name(line.setting), line.setting}});
            for (const eval::Cell& cell : line.cells) part.lines.back().push_back(cell_of(cell, table));
        }
    }
    put_table(html, table.title.empty() ? "Scores in %, with intervals of 95 %" : table.title, columns, {part});
}

void put_picture(Html& html, const std::string& caption, const std::string& svg) {
    html.open("figure").element("figcaption", caption).raw(svg).close();
}

void put_heat_maps(Html& html, const Evaluation& evaluation, const SettingNames& names) {
    constexpr size_t few = 2;  // columns, so that three maps have room side by side
    const PictureNames short_names(evaluation.rows);
    const bool small = lengths_of(evaluation.rows).size() <= few;
    html.element("h4", "Score by length and depth").open("div", {{"class", small ? "plots small" : "plots"}});
    for (const std::string& setting : names.settings()) {
        const auto& rows = evaluation.rows;
        if (std::none_of(rows.begin(), rows.end(), [&](auto& row) { return row.setting == setting; })) continue;
        plot::HeatMap map = eval::needle_heat_map(evaluation.rows, setting, short_names.of(setting));
        map.note.clear();  // all parameters are on the page
        html.open("figure").raw(draw_heat_map(map, plot::Target::svg_in_page)).close();
    }
    html.close();
}

StandingsByLength standings_by_length(const Evaluation& evaluation) {
    StandingsByLength by_length;
    for (const int length : lengths_of(evaluation.rows)) {
        by_length[length] = standings(evaluation.name, of_length(evaluation.rows, length));
    }
    return by_length;
}

/// The score over the lengths, a line for each setting.
void put_length_plot(Html& html, const StandingsByLength& by_length, const SettingNames& names) {
    if (by_length.size() < 2) return;
    std::map<std::string, std::vector<plot::ChartPoint>> points;  // by setting
    std::vector<double> lengths;
    for (const auto& [length, all] : by_length) {
        lengths.push_back(length);
        for (const Standing& at : all) {
            const auto& [n, mean, interval] = at.score.score;
            if (n == 0) continue;
            points[at.setting].push_back(
                {double(length),
                 mean,
                 {},
                 format("%s, %d tokens: %.1f %% (%.0f to %.0f), %d answers", names.name(at.setting).c_str(), length,
                        100 * mean, 100 * interval.low, 100 * interval.high, n)});
        }
    }
    if (points.empty()) return;  // everything failed
    plot::Chart chart{
        .title = "", .x = plot::length_axis("length, tokens", lengths), .y = plot::percent_axis("score"), .lines = {}};
    const PictureNames short_names(by_length);
    for (const std::string& setting : names.settings()) {
        if (points[setting].empty()) continue;
        const SettingLook& look = names.look(setting);
        chart.lines.push_back({short_names.of(setting), look.paint, points[setting], 2.2, look.dashed, look.marker});
    }
    put_picture(html, "Score over length", draw_chart(chart, "Score over length", plot::Target::svg_in_page));
}

void put_oracle_plot(Html& html, const Evaluation& evaluation, const SettingNames& names) {
    plot::Chart chart = eval::oracle_chart(evaluation.rows);
    if (chart.lines.empty()) return;
    std::map<std::string, const SettingLook*> looks;  // by the name in the chart
    std::set<std::string> methods;
    for (const eval::Row& row : evaluation.rows) methods.insert(row.method);
    for (const auto& [setting, name] : eval::setting_names(evaluation.rows)) looks[name] = &names.look(setting);
    // Methods have the page's colours. Several settings of one would be alike in them: these keep the chart's own.
    const bool one_each = methods.size() == looks.size();
    for (size_t i = 0; i + 1 < chart.lines.size(); i += 2) {  // the thin line first, which has no name
        plot::ChartLine &thin = chart.lines[i], &named = chart.lines[i + 1];
        if (one_each) thin.paint = named.paint = looks.at(named.name)->paint;
        if (one_each) thin.dashed = named.dashed = false;
        named.name = clipped(named.name, PictureNames::most);
    }
    const std::string title = "Share of the answer's attention on what each layer keeps";
    put_picture(html, title + "; thin: the same number of tokens, chosen by the attention itself",
                draw_chart(chart, title, plot::Target::svg_in_page));
}

// ---- samples --------------------------------------------------------------------------------------------------------

constexpr size_t most_shown = 8, most_text = 400;

struct Loss {
    const Row *full, *own;
};

/// Prompts that FullKV answered better, the worst losses first.
std::vector<Loss> losses_of(const std::vector<Row>& rows, const std::string& setting) {
    const RowsById full = full_rows(rows);
    std::vector<Loss> losses;
    for (const Row& row : rows) {
        const auto found = full.find(row.id);
        if (row.setting != setting || row.failed() || found == full.end()) continue;
        if (row.score < found->second->score) losses.push_back({found->second, &row});
    }
    std::stable_sort(losses.begin(), losses.end(), [](const Loss& a, const Loss& b) {
        return a.full->score - a.own->score > b.full->score - b.own->score;
    });
    return losses;
}

std::string wanted(const Row& row) {
    std::string text;
    for (const std::string& reference : row.references) text += (text.empty() ? "" : "\n") + reference;
    return clipped(text, most_text);
}

HtmlCell words(const std::string& text) { return {clipped(text, most_text), "", "words"}; }

void put_losses(Html& html, const Evaluation& evaluation, const SettingNames& names) {
    if (evaluation.name == "oracle") return;  // which has no answers
    std::vector<HtmlLines> parts;
    for (const std::string& setting : names.settings()) {
        const std::vector<Loss> losses = losses_of(evaluation.rows, setting);
        if (losses.empty()) continue;
        HtmlLines part{
            format("%s: %zu prompts answered worse than by FullKV", names.name(setting).c_str(), losses.size()), {}};
        if (losses.size() > most_shown) part.heading += format(", the first %zu", most_shown);
        for (size_t i = 0; i < std::min(losses.size(), most_shown); ++i) {
            const auto& [full, own] = losses[i];
            part.lines.push_back({{clipped(own->id, 60)},
                                  {format("%.0f → %.0f", 100 * full->score, 100 * own->score)},
                                  words(wanted(*own)),
                                  words(full->prediction),
                                  words(own->prediction)});
        }
        parts.push_back(std::move(part));
    }
    if (parts.empty()) return;
    open_details(html, "What was lost: answers beside FullKV's");
    put_table(html, "Long texts are cut here; samples.jsonl has them whole",
              {"prompt", "score", "wanted", "FullKV's answer", "the method's answer"}, parts);
    html.close();
}

void put_failures(Html& html, const Evaluation& evaluation, const SettingNames& names) {
    HtmlLines part{"", {}};
    int n_cut = 0;
    for (const Row& row : evaluation.rows) {
        n_cut += row.n_truncated > 0 ? 1 : 0;
        if (row.failed()) part.lines.push_back({{row.id}, {names.name(row.setting), row.setting}, words(row.error)});
    }
    if (n_cut > 0) {
        html.element("p",
                     format("%d of %zu prompts were too long and lost their middle.", n_cut, evaluation.rows.size()));
    }
    if (part.lines.empty()) return;
    open_details(html, format("%zu of %zu answers failed", part.lines.size(), evaluation.rows.size()), /*open=*/true);
    put_table(html, "They are not in the means", {"prompt", "method", "error"}, {part});
    html.close();
}

}  // namespace

void put_evaluation(Html& html, const Evaluation& evaluation, const std::string& anchor, const SettingNames& names) {
    html.open("section", {{"id", anchor}}).element("h3", title_of(evaluation));
    if (evaluation.rows.empty()) {
        html.element("p", "No answers yet.").close();
        return;
    }
    put_failures(html, evaluation, names);
    if (evaluation.name != "oracle") {  // shares of attention are no accuracy
        const StandingsByLength by_length = standings_by_length(evaluation);
        put_tradeoffs(html, by_length, names);
        if (evaluation.name == "ruler" || evaluation.name == "needle") put_length_plot(html, by_length, names);
    }
    for (const eval::Table& table : tables_of(evaluation.name, evaluation.rows)) put_eval_table(html, table, names);
    if (evaluation.name == "needle") put_heat_maps(html, evaluation, names);
    if (evaluation.name == "oracle") put_oracle_plot(html, evaluation, names);
    put_losses(html, evaluation, names);
    html.close();
}

}  // namespace fastkv::report
