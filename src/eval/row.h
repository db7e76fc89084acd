// One answer: a line of samples.jsonl.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace fastkv::eval {

using Json = nlohmann::ordered_json;

/// What one setting said to one sample, or why it could not.
struct Row {
    std::string id;       ///< the sample's
    std::string method;   ///< "fastkv"
    std::string setting;  ///< the method and all its parameters, as method_text() writes them
    std::string task;
    int index = 0;
    int length = 0;
    double depth = -1;
    int n_prompt = 0;     ///< tokens
    int n_truncated = 0;  ///< tokens that were cut from its middle
    std::string prediction;
    std::vector<std::string> references;
    double score = 0;
    int n_predicted = 0;          ///< tokens
    double prefill_seconds = 0;   ///< up to the first token's logits
    double decode_seconds = 0;    ///< of the tokens after the first
    uint64_t kv_cache_bytes = 0;  ///< allocated for the cache, the answer's entries included
    std::string error;            ///< not empty: it failed, and has no score
    Json more = Json::object();   ///< the evaluation's own keys

    bool failed() const { return !error.empty(); }
    /// Names the pair of sample and setting: a folder has each once.
    std::string key() const { return setting + "\n" + id; }
};

std::string key_of(const std::string& setting, const std::string& sample_id);

/// As one line of JSON, without its newline.
std::string row_json(const Row& row);

/// What row_json() wrote, read back. Throws Json::exception where it is no row.
Row row_of(Json json);

/// The rows of a file called `name`. Throws Error(failure) that names the line where one is no row.
std::vector<Row> rows_of(std::string_view content, const std::string& name);

}  // namespace fastkv::eval
