// Files of one JSON object a line.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace fastkv::eval {

struct JsonLine {
    std::string where;  ///< "rows.jsonl: line 3", for messages
    nlohmann::ordered_json json;
};

/// All lines that are not blank. Throws Error(failure), "NAME: line N is not a JSON object", for the first that is
/// none.
std::vector<JsonLine> json_lines(std::string_view content, const std::string& name);

/// The string under `key`; "" where there is none. Throws Error(failure) where something else is.
std::string text_at(const JsonLine& line, const char* key);

/// The strings under `key`: a list of them, or a single one. Throws Error(failure) where there is none.
std::vector<std::string> texts_at(const JsonLine& line, const char* key);

}  // namespace fastkv::eval
