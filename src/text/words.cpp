#include "text/words.h"

namespace fastkv::text {

std::string join(const std::vector<std::string>& parts, const std::string& between) {
    std::string text;
    for (size_t i = 0; i < parts.size(); ++i) text.append(i > 0 ? between : "").append(parts[i]);
    return text;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
    for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
        text.replace(at, from.size(), to);
    }
    return text;
}

}  // namespace fastkv::text
