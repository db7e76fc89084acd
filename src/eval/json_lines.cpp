#include "eval/json_lines.h"

#include <algorithm>

#include "fastkv/error.h"

namespace fastkv::eval {

std::vector<JsonLine> json_lines(std::string_view content, const std::string& name, const OnBadLine& on_bad_line) {
    std::vector<JsonLine> lines;
    for (int number = 1; !content.empty(); ++number) {
        const size_t end = std::min(content.find('\n'), content.size());
        const std::string_view text = content.substr(0, end);
        content.remove_prefix(std::min(end + 1, content.size()));
        if (text.find_first_not_of(" \t\r") == std::string_view::npos) continue;
        JsonLine line{name + ": line " + std::to_string(number), {}};
        line.json = nlohmann::ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
        if (!line.json.is_object()) {
            const std::string problem = line.where + " is not a JSON object";
            if (!on_bad_line) fail(problem);
            on_bad_line(problem);
            continue;
        }
        lines.push_back(std::move(line));
    }
    return lines;
}

std::string text_at(const JsonLine& line, const char* key) {
    const auto found = line.json.find(key);
    if (found == line.json.end() || found->is_null()) return "";
    if (!found->is_string()) fail(line.where + ": \"" + key + "\" is not text");
    return found->get<std::string>();
}

std::vector<std::string> texts_at(const JsonLine& line, const char* key) {
    const auto found = line.json.find(key);
    if (found == line.json.end()) fail(line.where + " has no \"" + key + "\"");
    if (found->is_string()) return {found->get<std::string>()};
    std::vector<std::string> texts;
    for (const auto& item : *found) {
        if (!item.is_string()) fail(line.where + ": \"" + key + "\" is not a list of texts");
        texts.push_back(item.get<std::string>());
    }
    if (texts.empty()) fail(line.where + ": \"" + key + "\" is empty");
    return texts;
}

}  // namespace fastkv::eval
