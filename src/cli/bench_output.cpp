// The names of the columns are those of llama-bench where it has them: other tools read them, change none.
#include "cli/bench_output.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "bench/statistics.h"
#include "cli/text.h"
#include "text/json.h"
#include "text/words.h"

namespace fastkv::cli {

namespace {

using Json = nlohmann::ordered_json;
using Samples = std::vector<double>;

std::string file_name(const std::string& path) { return std::filesystem::path(path).filename().string(); }

// ---- one row as JSON, from which CSV comes as well ---------------------------------------------------------------

// Median, spread and samples of a time, and of the tokens per second that it means; null where nothing was measured.
void put_times(Json& json, const std::string& name, const Samples& seconds, int n_tokens, bool measured) {
    Samples tps;
    for (const double s : seconds) tps.push_back(n_tokens / s);
    measured = measured && !seconds.empty();
    const auto put = [&](const std::string& key, const Json& value) { json[name + key] = measured ? value : Json(); };
    put("_seconds", bench::median(seconds));
    put("_seconds_stddev", bench::standard_deviation(seconds));
    put("_seconds_samples", seconds);
    put("_tps", bench::median(tps));
    put("_tps_stddev", bench::standard_deviation(tps));
    put("_tps_samples", tps);
}

// "ggml       0.25.3" and its like, by their first word.
Json build_json() {
    Json json = Json::object();
    std::istringstream lines(build_info());
    for (std::string line; std::getline(lines, line);) {
        const size_t end = line.find(' ');
        const size_t value = line.find_first_not_of(' ', end);
        if (value != std::string::npos) json[line.substr(0, end)] = line.substr(value);
    }
    return json;
}

void put_facts(Json& json, const BenchFacts& facts) {
    json["version"] = version();
    json["build_info"] = build_json();
    json["cpu_info"] = facts.cpu;
    json["model_filename"] = facts.model_path;
    json["model_hash"] = facts.model_hash;
    json["model_type"] = facts.hparams.arch + " " + facts.hparams.file_type;
    json["model_size"] = facts.hparams.weights_bytes;
    json["model_n_params"] = facts.hparams.n_params;
    json["n_gpu_layers"] = facts.model.n_gpu_layers;
    json["compute"] = compute_name(facts.model.compute);
    json["ops"] = ops_name(facts.model.ops);
}

Json row_json(const bench::Row& row, const BenchFacts& facts) {
    const bench::Test& test = row.test;
    const bool has_peak = !row.samples.empty() && row.peak_rss_bytes() > 0;
    Json json;
    put_facts(json, facts);
    json["n_threads"] = row.n_threads;
    json["name"] = row.method.name;
    json["method"] = row.method.params.method;
    json["params"] = text::params_json(row.method.params);
    json["type_k"] = row.type_k;
    json["type_v"] = row.type_v;
    json["n_prompt"] = test.n_prompt;
    json["n_gen"] = test.n_gen;
    json["n_depth"] = test.n_depth;
    json["test_time"] = row.test_time;
    json["repetitions"] = row.samples.size();
    put_times(json, "prefill", row.prefill_seconds(), test.n_prompt, test.n_prompt > 0);
    put_times(json, "decode", row.decode_seconds(), test.n_gen, test.n_gen > 0);
    put_times(json, "end_to_end", row.end_to_end_seconds(), test.n_gen, test.n_prompt > 0 && test.n_gen > 0);
    json["kv_cache_bytes"] = row.samples.empty() ? Json() : Json(row.samples.back().kv_cache_bytes);
    json["peak_rss_bytes"] = has_peak ? Json(row.peak_rss_bytes()) : Json();
    json["error"] = row.error.empty() ? Json() : Json(row.error);
    return json;
}

void print_json(const std::vector<Json>& rows) { std::printf("%s\n", text::json_text(Json(rows), 2).c_str()); }

void print_jsonl(const std::vector<Json>& rows) {
    for (const Json& row : rows) std::printf("%s\n", text::json_text(row, -1).c_str());
}

// RFC 4180. Lists are joined by spaces, parameters are name=value; null is empty.
std::string csv_text(const Json& value) {
    if (value.is_null()) return "";
    if (!value.is_string() && !value.is_structured()) return text::json_text(value, -1);
    std::string text;
    if (value.is_string()) text = value.get<std::string>();
    if (value.is_structured()) {
        for (const auto& [name, item] : value.items()) {
            text += text.empty() ? "" : " ";
            text += value.is_object() ? name + "=" : "";
            text += item.is_string() ? item.get<std::string>() : text::json_text(item, -1);
        }
    }
    return '"' + text::replaced(std::move(text), "\"", "\"\"") + '"';
}

void print_csv(const std::vector<Json>& rows) {
    if (rows.empty()) return;
    std::vector<std::string> cells;
    for (const auto& [name, value] : rows.front().items()) cells.push_back(name);
    std::printf("%s\n", text::join(cells, ",").c_str());
    for (const Json& row : rows) {
        cells.clear();
        for (const auto& [name, value] : row.items()) cells.push_back(csv_text(value));
        std::printf("%s\n", text::join(cells, ",").c_str());
    }
}

// ---- the table for people ------------------------------------------------------------------------------------------

std::string spread_text(const Json& row, const std::string& name, const char* number) {
    if (row.at(name).is_null()) return "";
    std::string text = format(number, row.at(name).get<double>());
    if (row.at("repetitions").get<int>() > 1) text += " ± " + format(number, row.at(name + "_stddev").get<double>());
    return text;
}

std::string bytes_of(const Json& value) { return value.is_null() ? "" : bytes_text(value.get<uint64_t>()); }

void print_caption(const std::vector<bench::Row>& rows, const BenchFacts& facts) {
    const HyperParams& hp = facts.hparams;
    std::printf("%s (%s %s, %s parameters, %s) on %s; fastkv %s, compute %s; medians",
                file_name(facts.model_path).c_str(), hp.arch.c_str(), hp.file_type.c_str(),
                count_text(hp.n_params).c_str(), bytes_text(hp.weights_bytes).c_str(),
                facts.cpu.empty() ? "an unknown processor" : facts.cpu.c_str(), version(),
                compute_name(facts.model.compute).c_str());
    const bool spread = std::any_of(rows.begin(), rows.end(), [](auto& row) { return row.samples.size() > 1; });
    std::printf("%s\n\n", spread ? " ± standard deviations" : "");
}

void print_md_row(const bench::Row& row, const Json& json) {
    std::printf("| %s | %s | %d | %zu |", row.method.name.c_str(), test_text(row.test).c_str(), row.n_threads,
                row.samples.size());
    if (row.samples.empty()) {
        std::printf(" failed: %s | | | | | | |\n", row.error.c_str());
        return;
    }
    std::printf(" %s | %s | %s | %s | %s | %s | %s |\n", spread_text(json, "prefill_seconds", "%.3f").c_str(),
                spread_text(json, "prefill_tps", "%.1f").c_str(), spread_text(json, "decode_tps", "%.1f").c_str(),
                spread_text(json, "end_to_end_seconds", "%.3f").c_str(),
                spread_text(json, "end_to_end_tps", "%.1f").c_str(), bytes_of(json.at("kv_cache_bytes")).c_str(),
                bytes_of(json.at("peak_rss_bytes")).c_str());
}

// What stands behind the names.
void print_methods(const std::vector<bench::Row>& rows) {
    std::vector<std::string> shown;
    for (const bench::Row& row : rows) {
        const std::string text = method_text(row.method.params);
        const std::string line = (row.method.name == text ? text : row.method.name + ": " + text) +
                                 format("; cache %s/%s", row.type_k.c_str(), row.type_v.c_str());
        if (std::find(shown.begin(), shown.end(), line) != shown.end()) continue;
        shown.push_back(line);
        std::printf("%s\n", line.c_str());
    }
}

void print_md(const std::vector<bench::Row>& rows, const std::vector<Json>& json_rows, const BenchFacts& facts) {
    if (rows.empty()) return;
    print_caption(rows, facts);
    std::printf(
        "| method | test | threads | runs | prefill s | prefill t/s | decode t/s | end-to-end s | end-to-end t/s | "
        "cache | "
        "peak memory |\n|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n");
    for (size_t i = 0; i < rows.size(); ++i) print_md_row(rows[i], json_rows[i]);
    std::printf("\n");
    print_methods(rows);
}

}  // namespace

std::string test_text(const bench::Test& test) {
    std::string text;
    if (test.n_prompt > 0) text = format("pp%d", test.n_prompt);
    if (test.n_gen > 0) text += format("%stg%d", text.empty() ? "" : "+", test.n_gen);
    if (test.n_depth > 0) text += format(" @ d%d", test.n_depth);
    return text;
}

void print_rows(const std::vector<bench::Row>& all_rows, const BenchFacts& facts, BenchOutput output) {
    std::vector<bench::Row> rows;
    std::vector<Json> json_rows;
    for (const bench::Row& row : all_rows) {
        if (row.samples.empty() && row.error.empty()) continue;
        rows.push_back(row);
        json_rows.push_back(row_json(row, facts));
    }
    switch (output) {
        case BenchOutput::md: print_md(rows, json_rows, facts); break;
        case BenchOutput::csv: print_csv(json_rows); break;
        case BenchOutput::json: print_json(json_rows); break;
        case BenchOutput::jsonl: print_jsonl(json_rows); break;
    }
    if (std::fflush(stdout) != 0) fail("standard output: cannot write");
}

}  // namespace fastkv::cli
