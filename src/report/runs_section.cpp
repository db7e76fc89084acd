// What was run.
#include <algorithm>
#include <set>

#include "report/sections.h"
#include "report/shown.h"
#include "text/json.h"
#include "text/numbers.h"
#include "text/words.h"

namespace fastkv::report {

namespace {

using eval::Json;

std::string shown(const Json& value) {
    if (value.is_string()) return value.get<std::string>();
    return value.is_null() ? "" : text::json_text(value);
}

/// What several runs say under a key, each once.
std::string each_once(const std::vector<Json>& values) {
    std::vector<std::string> texts;
    for (const Json& value : values) {
        const std::string text = shown(value);
        if (!text.empty() && std::find(texts.begin(), texts.end(), text) == texts.end()) texts.push_back(text);
    }
    return text::join(texts, "; ");
}

/// Nothing where something on the way is missing or no object.
Json at(const Json& json, const std::string& key) { return json.is_object() ? json.value(key, Json()) : Json(); }

std::vector<Json> of_runs(const Json& runs, const std::string& key, const std::string& inner = "") {
    std::vector<Json> values;
    for (const Json& run : runs) values.push_back(inner.empty() ? at(run, key) : at(at(run, key), inner));
    return values;
}

std::string from_to(const std::vector<Json>& times) {
    std::vector<std::string> texts;
    for (const Json& time : times) {
        if (time.is_string()) texts.push_back(minute_of(time.get<std::string>()));
    }
    if (texts.empty()) return "";
    const auto [first, last] = std::minmax_element(texts.begin(), texts.end());
    return *first == *last ? *first : *first + " to " + *last;
}

std::vector<HtmlCell> line_of(const Evaluation& evaluation) {
    std::set<std::string> samples, settings;
    int n_failed = 0;
    for (const eval::Row& row : evaluation.rows) {
        samples.insert(row.id);
        settings.insert(row.setting);
        n_failed += row.failed() ? 1 : 0;
    }
    return {{title_of(evaluation)},
            {std::to_string(samples.size())},
            {std::to_string(settings.size())},
            {std::to_string(n_failed), "", n_failed > 0 ? "worse" : ""},
            {each_once(of_runs(evaluation.runs, "machine", "cpu"))},
            {each_once(of_runs(evaluation.runs, "machine", "n_threads"))},
            {each_once(of_runs(evaluation.runs, "version"))},
            {from_to(of_runs(evaluation.runs, "time"))}};
}

std::vector<HtmlCell> line_of(const Bench& bench) {
    std::set<std::string> tests, settings;
    std::vector<Json> cpus, threads, versions, times;
    int n_failed = 0;
    for (const BenchRow& row : bench.rows) {
        tests.insert(row.test());
        settings.insert(row.setting);
        n_failed += row.error.empty() ? 0 : 1;
        cpus.push_back(at(row.facts, "cpu_info"));
        threads.push_back(row.n_threads);
        versions.push_back(at(row.facts, "version"));
        times.push_back(at(row.facts, "test_time"));
    }
    return {{title_of(bench)},
            {std::to_string(tests.size())},
            {std::to_string(settings.size())},
            {std::to_string(n_failed), "", n_failed > 0 ? "worse" : ""},
            {each_once(cpus)},
            {each_once(threads)},
            {each_once(versions)},
            {from_to(times)}};
}

void put_pairs(Html& html, const Json& object) {
    html.open("dl");
    for (const auto& [key, value] : object.items()) html.element("dt", key).element("dd", shown(value));
    html.close();
}

/// The settings of some rows, with all their parameters.
template <class Rows>
void put_methods(Html& html, const Rows& rows, const SettingNames& names) {
    html.open("dl");
    for (const std::string& setting : names.settings()) {
        if (std::none_of(rows.begin(), rows.end(), [&](auto& row) { return row.setting == setting; })) continue;
        html.element("dt", names.name(setting)).element("dd", setting, {{"class", "code"}});
    }
    html.close();
}

void put_settings(Html& html, const Evaluation& evaluation, const SettingNames& names) {
    html.element("h4", title_of(evaluation));
    put_methods(html, evaluation.rows, names);
    put_pairs(html, evaluation.settings);
    for (const Json& run : evaluation.runs) {
        html.open("dl");
        html.element("dt", "time").element("dd", shown(at(run, "time")));
        html.element("dt", "command").element("dd", shown(at(run, "command")), {{"class", "code"}});
        html.element("dt", "version").element("dd", shown(at(run, "version")));
        html.element("dt", "build").element("dd", shown(at(run, "build")), {{"class", "code"}});
        html.element("dt", "machine").element("dd", shown(at(run, "machine")));
        html.element("dt", "model").element("dd", shown(at(at(run, "model"), "path")));
        html.close();
    }
}

void put_settings(Html& html, const Bench& bench, const SettingNames& names) {
    html.element("h4", title_of(bench));
    put_methods(html, bench.rows, names);
    Json facts = bench.rows.front().facts;
    facts.erase("test_time");
    put_pairs(html, facts);
}

/// "qwen2 q5_0, 630,167,424 parameters, weights 463 MiB"
std::string facts_of(const Model& model) {
    std::string facts;
    const auto add = [&](const std::string& fact) {
        facts.append(facts.empty() || fact.empty() ? "" : ", ").append(fact);
    };
    const auto text = [&](const char* key) { return shown(at(model.facts, key)); };
    const auto number = [&](const char* key) { return at(model.facts, key); };
    add(text("name"));
    add(text("arch"));
    add(text("file_type"));
    if (number("n_params").is_number()) add(text::count_text(number("n_params").get<int64_t>()) + " parameters");
    if (number("weights_bytes").is_number()) {
        add("weights " + text::bytes_text(number("weights_bytes").get<uint64_t>()));
    }
    if (!model.hash.empty()) add("file hash " + model.hash);
    return facts;
}

}  // namespace

std::string title_of(const Evaluation& evaluation) {
    return evaluation.folder.empty() || evaluation.folder == evaluation.name
               ? evaluation.name
               : evaluation.name + " (" + evaluation.folder + ")";
}

std::string title_of(const Bench& bench) { return "bench (" + bench.file + ")"; }

void put_runs(Html& html, const Model& model, const SettingNames& names) {
    html.element("p", facts_of(model), {{"class", "quiet"}});
    HtmlLines lines{"", {}};
    for (const Evaluation& evaluation : model.evaluations) lines.lines.push_back(line_of(evaluation));
    for (const Bench& bench : model.benches) lines.lines.push_back(line_of(bench));
    put_table(html, "What was run; times are UTC",
              {"", "prompts or tests", "settings", "failed", "processor", "threads", "fastkv", "time"}, {lines});
    open_details(html, "All settings: methods with their parameters, commands, versions, machines");
    for (const Evaluation& evaluation : model.evaluations) put_settings(html, evaluation, names);
    for (const Bench& bench : model.benches) put_settings(html, bench, names);
    html.close();
}

}  // namespace fastkv::report
