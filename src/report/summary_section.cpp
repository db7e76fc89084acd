// What methods come to, and what they take for it.
#include <algorithm>
#include <set>

#include "report/evaluations.h"
#include "report/sections.h"
#include "report/shown.h"
#include "text/format.h"
#include "text/numbers.h"

namespace fastkv::report {

namespace {

using text::format;

/// In the order of the page.
std::vector<Standing> ordered(std::vector<Standing> all, const SettingNames& names) {
    std::stable_sort(all.begin(), all.end(),
                     [&](auto& a, auto& b) { return names.place(a.setting) < names.place(b.setting); });
    return all;
}

std::string lengths_text(const std::vector<eval::Row>& rows) {
    const std::vector<int> lengths = lengths_of(rows);
    if (lengths.back() == 0) return "";
    std::string text;
    for (const int length : lengths) text += (text.empty() ? "" : " · ") + text::count_text(length);
    return text + " tokens";
}

HtmlLines lines_of(const Evaluation& evaluation, const SettingNames& names) {
    HtmlLines part{title_of(evaluation), {}};
    if (const std::string lengths = lengths_text(evaluation.rows); !lengths.empty()) part.heading += ": " + lengths;
    for (const Standing& at : ordered(standings(evaluation.name, evaluation.rows), names)) {
        const int n_failed = at.score.n_failed;
        part.lines.push_back({{names.name(at.setting), at.setting},
                              score_cell(at.score.score),
                              interval_cell(at.score.score),
                              difference_cell(at.difference),
                              at.difference ? interval_cell(*at.difference) : HtmlCell{"", "", "quiet"},
                              seconds_cell(at.prefill_seconds),
                              ratio_cell(at.speedup),
                              mebibytes_cell(at.kv_cache_bytes),
                              percent_cell(at.cache_share),
                              {n_failed > 0 ? std::to_string(n_failed) : "", "", n_failed > 0 ? "worse" : ""}});
    }
    return part;
}

/// Scores in percent, rounded out to tens, and not less than 30 points apart.
plot::Axis score_axis(const std::vector<Standing>& all) {
    double low = 1, high = 0;
    for (const Standing& at : all) {
        if (at.score.score.n == 0) continue;
        low = std::min(low, at.score.score.mean - 0.06);
        high = std::max(high, at.score.score.mean + 0.06);
    }
    int from = std::max(0, int(10 * low)), to = std::min(10, int(10 * high) + 1);
    if (to - from < 3) (to >= 3 ? from = to - 3 : to = 3);
    return plot::percent_axis("score", from / 10.0, to / 10.0);
}

plot::Chart tradeoff_chart(const std::vector<Standing>& all, const SettingNames& names, const PictureNames& short_names,
                           bool memory) {
    plot::Chart chart{.title = "", .x = {}, .y = score_axis(all), .lines = {}};
    std::vector<double> values;
    for (const Standing& at : all) {
        if (at.score.score.n == 0) continue;
        const double x = memory ? at.kv_cache_bytes / (1 << 20) : at.prefill_seconds;
        const auto& [n, mean, interval] = at.score.score;
        const SettingLook& look = names.look(at.setting);
        values.push_back(x);
        const std::string title =
            format("%s: %.1f %% (%.0f to %.0f), %.2f s, %.1f MiB, %d answers", look.name.c_str(), 100 * mean,
                   100 * interval.low, 100 * interval.high, at.prefill_seconds, at.kv_cache_bytes / (1 << 20), n);
        chart.lines.push_back({short_names.of(at.setting),
                               look.paint,
                               {{x, mean, {{interval.low, interval.high}}, title}},
                               0,
                               false,
                               look.marker});
        if (at.method == "fullkv") chart.reference = {.y = mean, .name = ""};
    }
    const auto [least, most] = std::minmax_element(values.begin(), values.end());
    constexpr double wide = 6;  // more than this and the small ones would stand in a heap
    const std::string name = memory ? "KV cache, MiB" : "prefill, seconds";
    const bool logarithmic = !values.empty() && *least > 0 && *most > wide * *least;
    chart.x = logarithmic ? plot::logarithmic_axis(name + " (logarithmic)", values) : plot::linear_axis(name, values);
    chart.names = plot::Names::at_points;
    chart.width = 440;
    return chart;
}

void put_pair(Html& html, const std::vector<Standing>& all, const SettingNames& names, const PictureNames& short_names,
              const std::string& what) {
    for (const bool memory : {false, true}) {
        const std::string title = "Accuracy against " + std::string(memory ? "memory" : "time") + what;
        html.open("figure").element("figcaption", title);
        html.raw(draw_chart(tradeoff_chart(all, names, short_names, memory), title, plot::Target::svg_in_page)).close();
    }
}

/// Times of two machines are no times to compare.
void put_machine_note(Html& html, const Evaluation& evaluation) {
    std::set<std::string> machines;
    for (const eval::Json& run : evaluation.runs) {
        if (run.is_object() && run.contains("machine")) machines.insert(run.at("machine").dump());
    }
    if (machines.size() < 2) return;
    html.element("p",
                 title_of(evaluation) +
                     format(" was run on %zu machines or numbers of threads: its seconds are mixed.", machines.size()));
}

}  // namespace

void put_summary(Html& html, const Model& model, const SettingNames& names) {
    if (model.evaluations.empty()) return;
    html.element("h3", "Summary");
    std::vector<HtmlLines> parts;
    for (const Evaluation& evaluation : model.evaluations) {
        if (!evaluation.rows.empty()) parts.push_back(lines_of(evaluation, names));
    }
    put_table(html, "Scores in %, with intervals of 95 %; times and bytes are means over what was answered",
              {"method", "score", "95 %", "vs FullKV", "95 %", "prefill, s", "speed-up", "KV cache, MiB", "of FullKV",
               "failed"},
              parts);
    html.element(
        "p",
        "Tasks and lengths weigh alike. Differences, speed-ups and shares of the cache are taken on the prompts that "
        "the method and FullKV both answered; a difference is coloured where its interval leaves out 0. Compare and "
        "oracle measure against FullKV, so they have no difference. Times are those of the evaluation, prompt by "
        "prompt, not of a benchmark.",
        {{"class", "quiet"}});
    for (const Evaluation& evaluation : model.evaluations) put_machine_note(html, evaluation);
}

void put_tradeoffs(Html& html, const StandingsByLength& by_length, const SettingNames& names) {
    const PictureNames short_names(by_length);
    html.open("div", {{"class", "plots"}});
    for (const auto& [length, all] : by_length) {
        if (std::all_of(all.begin(), all.end(), [](auto& at) { return at.score.score.n == 0; })) continue;
        put_pair(html, ordered(all, names), names, short_names,
                 length > 0 ? ", " + text::count_text(length) + " tokens" : "");
    }
    html.close();
}

}  // namespace fastkv::report
