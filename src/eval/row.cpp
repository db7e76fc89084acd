#include "eval/row.h"

#include <cmath>

#include "eval/json_lines.h"
#include "fastkv/error.h"
#include "text/json.h"

namespace fastkv::eval {

namespace {

double rounded(double value, double places) { return std::round(value * places) / places; }

// Takes a key out of what will be left as the evaluation's own.
template <class T>
T take(Json& json, const char* key, T otherwise) {
    const auto found = json.find(key);
    if (found == json.end()) return otherwise;
    const T value = found->get<T>();
    json.erase(key);
    return value;
}

template <class T>
T take(Json& json, const char* key) {
    const T value = json.at(key).get<T>();
    json.erase(key);
    return value;
}

}  // namespace

std::string key_of(const std::string& setting, const std::string& sample_id) { return setting + "\n" + sample_id; }

Row row_of(Json json) {
    Row row;
    row.id = take<std::string>(json, "id");
    row.method = take<std::string>(json, "method");
    row.setting = take<std::string>(json, "setting");
    row.task = take<std::string>(json, "task");
    row.index = take<int>(json, "index");
    row.length = take<int>(json, "length", 0);
    row.depth = take<double>(json, "depth", -1);
    row.references = take<std::vector<std::string>>(json, "references");
    row.error = take<std::string>(json, "error", "");
    row.n_prompt = take<int>(json, "n_prompt", 0);
    row.n_truncated = take<int>(json, "n_truncated", 0);
    if (!row.failed()) {
        row.prediction = take<std::string>(json, "prediction");
        row.score = take<double>(json, "score");
        row.n_predicted = take<int>(json, "n_predicted");
        row.prefill_seconds = take<double>(json, "prefill_seconds");
        row.decode_seconds = take<double>(json, "decode_seconds");
        row.kv_cache_bytes = take<uint64_t>(json, "kv_cache_bytes");
    }
    row.more = std::move(json);
    return row;
}

std::string row_json(const Row& row) {
    Json json;
    json["id"] = row.id;
    json["method"] = row.method;
    json["setting"] = row.setting;
    json["task"] = row.task;
    json["index"] = row.index;
    if (row.length > 0) json["length"] = row.length;
    if (row.depth >= 0) json["depth"] = rounded(row.depth, 1e3);
    if (row.n_prompt > 0) json["n_prompt"] = row.n_prompt;
    if (row.n_truncated > 0) json["n_truncated"] = row.n_truncated;
    if (row.failed()) {
        json["error"] = row.error;
    } else {
        json["score"] = row.score;
        json["prediction"] = row.prediction;
        json["n_predicted"] = row.n_predicted;
        json["prefill_seconds"] = rounded(row.prefill_seconds, 1e4);
        json["decode_seconds"] = rounded(row.decode_seconds, 1e4);
        json["kv_cache_bytes"] = row.kv_cache_bytes;
    }
    json["references"] = row.references;
    json.update(row.more);
    return text::json_text(json);
}

std::vector<Row> rows_of(std::string_view content, const std::string& name) {
    std::vector<Row> rows;
    for (JsonLine& line : json_lines(content, name)) {
        try {
            rows.push_back(row_of(std::move(line.json)));
        } catch (const Json::exception& error) {
            fail(line.where + " is no result of fastkv eval: " + error.what());
        }
    }
    return rows;
}

}  // namespace fastkv::eval
