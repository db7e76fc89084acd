#include "text/continuation.h"

namespace fastkv::text {

namespace {

constexpr const char* white_space = " \t\r\n";

std::string trimmed(const std::string& text) {
    const size_t first = text.find_first_not_of(white_space), last = text.find_last_not_of(white_space);
    return first == std::string::npos ? "" : text.substr(first, last - first + 1);
}

}  // namespace

std::optional<std::string> unread_text(const std::string& text, const std::string& read, const std::string& answer) {
    if (!text.starts_with(read)) return {};
    const std::string rest = text.substr(read.size());
    if (rest.starts_with(answer)) return rest.substr(answer.size());
    const std::string stripped = trimmed(answer);
    const size_t first = rest.find_first_not_of(white_space);
    if (first == std::string::npos || rest.compare(first, stripped.size(), stripped) != 0) return {};
    return rest.substr(first + stripped.size());
}

}  // namespace fastkv::text
