// How fast methods are: tables and curves over the prompt's length.
#include <algorithm>
#include <functional>
#include <map>
#include <tuple>

#include "report/sections.h"
#include "report/shown.h"
#include "text/format.h"

namespace fastkv::report {

namespace {

using text::format;

HtmlCell timing_cell(const std::optional<Timing>& timing, int digits, int repetitions) {
    if (!timing) return {"", "", "quiet"};
    std::string text = format("%.*f", digits, timing->median);
    if (repetitions > 1) text += format(" ± %.*f", digits, timing->stddev);
    return {text};
}

std::string threads_text(int n) { return format(n == 1 ? "%d thread" : "%d threads", n); }

HtmlCell bytes_cell(const std::optional<double>& bytes) { return bytes ? mebibytes_cell(*bytes) : HtmlCell{""}; }

using TestKey = std::tuple<int, int, int, int>;  // threads, depth, prompt, answer

TestKey key_of(const BenchRow& row) { return {row.n_threads, row.n_depth, row.n_prompt, row.n_gen}; }

std::vector<HtmlCell> line_of(const BenchRow& row, const BenchRow* full, const SettingNames& names) {
    const HtmlCell name{names.name(row.setting), row.setting};
    if (!row.error.empty()) return {name, {"failed: " + row.error, "", "words"}};
    std::optional<double> speedup;
    if (full != nullptr && full->prefill_seconds && row.prefill_seconds && row.prefill_seconds->median > 0) {
        speedup = full->prefill_seconds->median / row.prefill_seconds->median;
    }
    return {name,
            timing_cell(row.prefill_seconds, 3, row.repetitions),
            ratio_cell(speedup),
            timing_cell(row.prefill_tps, 0, row.repetitions),
            timing_cell(row.decode_tps, 1, row.repetitions),
            timing_cell(row.end_to_end_seconds, 3, row.repetitions),
            timing_cell(row.end_to_end_tps, 1, row.repetitions),
            bytes_cell(row.kv_cache_bytes),
            bytes_cell(row.peak_rss_bytes),
            {std::to_string(row.repetitions)}};
}

void put_rows(Html& html, const Bench& bench, const SettingNames& names) {
    std::map<TestKey, std::vector<const BenchRow*>> tests;
    for (const BenchRow& row : bench.rows) tests[key_of(row)].push_back(&row);
    std::vector<HtmlLines> parts;
    for (auto& [key, rows] : tests) {
        std::stable_sort(rows.begin(), rows.end(),
                         [&](auto a, auto b) { return names.place(a->setting) < names.place(b->setting); });
        const auto full = std::find_if(rows.begin(), rows.end(), [](auto row) { return row->method == "fullkv"; });
        HtmlLines part{rows[0]->test() + ", " + threads_text(rows[0]->n_threads), {}};
        for (const BenchRow* row : rows)
            part.lines.push_back(line_of(*row, full == rows.end() ? nullptr : *full, names));
        parts.push_back(std::move(part));
    }
    put_table(html,
              "Medians ± standard deviations. pp: tokens of the prompt, tg: tokens decoded, d: tokens read before",
              {"method", "prefill, s", "speed-up", "prefill, t/s", "decode, t/s", "end to end, s", "end to end, t/s",
               "KV cache, MiB", "peak, MiB", "runs"},
              parts);
}

using ValueOf = std::function<std::optional<double>(const BenchRow&)>;

struct Curve {
    std::string title;
    bool logarithmic;
    ValueOf value_of;
};

/// Over the prompt's length where there is a prompt, else over the depth.
void put_curve(Html& html, const std::vector<const BenchRow*>& rows, const Curve& curve, const SettingNames& names,
               const PictureNames& short_names) {
    std::map<std::string, std::map<int, double>> values;  // by setting and length
    std::vector<double> all, lengths;
    for (const BenchRow* row : rows) {
        const auto value = curve.value_of(*row);
        if (!value || !row->error.empty()) continue;
        const int length = row->n_prompt + row->n_depth;
        values[row->setting][length] = *value;
        all.push_back(*value);
        lengths.push_back(length);
    }
    if (all.empty() ||
        *std::min_element(lengths.begin(), lengths.end()) == *std::max_element(lengths.begin(), lengths.end())) {
        return;
    }
    plot::Chart chart{.title = "",
                      .x = plot::length_axis(rows[0]->n_prompt > 0 ? "prompt, tokens" : "depth, tokens", lengths),
                      .y = curve.logarithmic ? plot::logarithmic_axis("", all) : plot::linear_axis("", all),
                      .lines = {}};
    chart.width = 330;
    for (const std::string& setting : names.settings()) {
        std::vector<plot::ChartPoint> points;
        for (const auto& [length, value] : values[setting]) {
            points.push_back(
                {double(length), value, {}, format("%s, %d tokens: %.4g", names.name(setting).c_str(), length, value)});
        }
        if (points.empty()) continue;
        const SettingLook& look = names.look(setting);
        chart.lines.push_back({short_names.of(setting), look.paint, points, 2.2, look.dashed, look.marker});
    }
    html.open("figure").element("figcaption", curve.title);
    html.raw(draw_chart(chart, curve.title, plot::Target::svg_in_page)).close();
}

std::optional<double> median_of(const std::optional<Timing>& timing) {
    return timing ? std::optional<double>(timing->median) : std::nullopt;
}

const std::vector<Curve>& all_curves() {
    static const std::vector<Curve> curves = {
        {"Time to first token, s (logarithmic)", true,
         [](const BenchRow& row) { return median_of(row.prefill_seconds); }},
        {"End to end, s (logarithmic)", true, [](const BenchRow& row) { return median_of(row.end_to_end_seconds); }},
        {"Decoding, tokens/s", false, [](const BenchRow& row) { return median_of(row.decode_tps); }},
        {"KV cache, MiB (logarithmic)", true,
         [](const BenchRow& row) {
             return row.kv_cache_bytes ? std::optional<double>(*row.kv_cache_bytes / (1 << 20)) : std::nullopt;
         }},
    };
    return curves;
}

/// Rows that differ in method and length only, each such group with its curves.
void put_curves(Html& html, const Bench& bench, const SettingNames& names) {
    std::map<std::tuple<int, int, int>, std::vector<const BenchRow*>> groups;  // threads, depth or -1, answer
    for (const BenchRow& row : bench.rows) {
        groups[{row.n_threads, row.n_prompt > 0 ? row.n_depth : -1, row.n_gen}].push_back(&row);
    }
    const PictureNames short_names(bench.rows);
    for (const auto& [key, rows] : groups) {
        const auto& [threads, depth, n_gen] = key;
        if (groups.size() > 1) {
            std::string title = threads_text(threads) + format(", %d tokens decoded", n_gen);
            if (depth > 0) title += format(", after %d tokens", depth);
            html.element("h4", title);
        }
        html.open("div", {{"class", "plots"}});
        for (const Curve& curve : all_curves()) put_curve(html, rows, curve, names, short_names);
        html.close();
    }
}

}  // namespace

void put_bench(Html& html, const Bench& bench, const std::string& anchor, const SettingNames& names) {
    html.open("section", {{"id", anchor}}).element("h3", title_of(bench));
    html.element(
        "p",
        "Prefill ends with the first token's logits, decoding is what follows; end to end is both, and its tokens "
        "per second are the decoded ones over that time.",
        {{"class", "quiet"}});
    put_rows(html, bench, names);
    put_curves(html, bench, names);
    html.close();
}

}  // namespace fastkv::report
