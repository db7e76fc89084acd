#include "report/bench_rows.h"

#include "fastkv/error.h"
#include "fastkv/method.h"

namespace fastkv::report {

namespace {

using eval::Json;

std::string value_text(const Json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

/// As fastkv eval writes it, so that both speak of the same setting. A parameter that this version does not know stands
/// behind the others.
std::string setting_of(const std::string& method, const Json& values) {
    MethodParams params;
    params.method = method;
    std::string others;
    for (const auto& [name, value] : values.items()) {
        try {
            set_param(params, name, value_text(value));
        } catch (const Error&) {
            others += " --" + name + " " + value_text(value);
        }
    }
    return method_text(params) + others;
}

std::optional<double> number_at(const Json& json, const std::string& key) {
    const auto found = json.find(key);
    if (found == json.end() || found->is_null()) return {};
    return found->get<double>();
}

std::optional<Timing> timing_at(const Json& json, const std::string& key) {
    const auto median = number_at(json, key);
    if (!median) return {};
    return Timing{*median, number_at(json, key + "_stddev").value_or(0)};
}

int count_at(const Json& json, const char* key) {
    const Json& value = json.at(key);
    if (!value.is_number_integer() || value.get<int64_t>() < 0 || value.get<int64_t>() > INT32_MAX) {
        fail(std::string("\"") + key + "\" is no number of its kind");
    }
    return value.get<int>();
}

}  // namespace

std::string BenchRow::test() const {
    std::string text;
    if (n_prompt > 0) text = "pp" + std::to_string(n_prompt);
    if (n_gen > 0) text += (text.empty() ? "tg" : "+tg") + std::to_string(n_gen);
    if (n_depth > 0) text += " @ d" + std::to_string(n_depth);
    return text;
}

bool is_bench_row(const Json& json) {
    if (!json.is_object()) return false;
    for (const char* key : {"method", "params", "model_filename", "n_prompt", "n_gen", "prefill_seconds"}) {
        if (!json.contains(key)) return false;
    }
    return true;
}

BenchRow bench_row_of(const Json& json) {
    BenchRow row;
    row.method = json.at("method").get<std::string>();
    row.setting = setting_of(row.method, json.at("params"));
    row.n_prompt = count_at(json, "n_prompt");
    row.n_gen = count_at(json, "n_gen");
    row.n_depth = count_at(json, "n_depth");
    row.n_threads = count_at(json, "n_threads");
    row.repetitions = count_at(json, "repetitions");
    row.prefill_seconds = timing_at(json, "prefill_seconds");
    row.prefill_tps = timing_at(json, "prefill_tps");
    row.decode_tps = timing_at(json, "decode_tps");
    row.end_to_end_seconds = timing_at(json, "end_to_end_seconds");
    row.end_to_end_tps = timing_at(json, "end_to_end_tps");
    row.kv_cache_bytes = number_at(json, "kv_cache_bytes");
    row.peak_rss_bytes = number_at(json, "peak_rss_bytes");
    if (const auto error = json.find("error"); error != json.end() && !error->is_null()) {
        row.error = error->get<std::string>();
    }
    for (const char* key :
         {"model_filename", "model_hash", "model_type", "model_size", "model_n_params", "version", "build_info",
          "cpu_info", "n_gpu_layers", "compute", "ops", "type_k", "type_v", "test_time"}) {
        if (const auto found = json.find(key); found != json.end()) row.facts[key] = *found;
    }
    return row;
}

}  // namespace fastkv::report
