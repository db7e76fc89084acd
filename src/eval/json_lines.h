// Files of one JSON object a line.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace fastkv::eval {

struct JsonLine {
    std::string where;  ///< "rows.jsonl: line 3", for messages
    nlohmann::ordered_json json;
};

/// Is told what is wrong with a line: "NAME: line N is not a JSON object".
using OnBadLine = std::function<void(const std::string&)>;

/// All lines that are not blank. One that is no JSON object is left out if `on_bad_line` returns; without it Error
/// (failure) is thrown.
std::vector<JsonLine> json_lines(std::string_view content, const std::string& name, const OnBadLine& on_bad_line = {});

/// The string under `key`; "" where there is none. Throws Error(failure) where something else is.
std::string text_at(const JsonLine& line, const char* key);

/// The strings under `key`: a list of them, or a single one. Throws Error(failure) where there is none.
std::vector<std::string> texts_at(const JsonLine& line, const char* key);

}  // namespace fastkv::eval
