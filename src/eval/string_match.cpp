#include "eval/string_match.h"

#include <algorithm>

namespace fastkv::eval {

std::string lower(std::string text) {
    for (char& c : text) c = c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c;
    return text;
}

double share_contained(const std::string& text, const std::vector<std::string>& references) {
    if (references.empty()) return 0;
    const std::string said = lower(text);
    const auto occurs = [&](const std::string& reference) { return said.find(lower(reference)) != std::string::npos; };
    return double(std::count_if(references.begin(), references.end(), occurs)) / double(references.size());
}

}  // namespace fastkv::eval
