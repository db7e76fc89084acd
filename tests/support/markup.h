// Whether HTML or SVG is balanced, quoted and escaped: as strict as XML, which our pages keep to.
#pragma once

#include <cctype>
#include <string>
#include <string_view>
#include <vector>

namespace fastkv::test {

/// "" for well-formed markup, else what is wrong with it. The contents of style and script are not looked at.
inline std::string markup_problem(std::string_view markup) {
    const auto is_name = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == ':'; };
    const auto near = [&](size_t at) { return " near: " + std::string(markup.substr(at, 60)); };
    std::vector<std::string> open;
    size_t at = markup.starts_with("<!DOCTYPE html>") ? 15 : 0;
    while (at < markup.size()) {
        if (markup[at] == '>') return "a bare >" + near(at);
        if (markup[at] == '&') {
            const size_t end = markup.find(';', at);
            if (end == markup.npos || end - at > 8) return "a bare &" + near(at);
            at = end + 1;
            continue;
        }
        if (markup[at] != '<') {
            if (static_cast<unsigned char>(markup[at]) < 0x20 && markup[at] != '\n' && markup[at] != '\t') {
                return "a control character" + near(at);
            }
            ++at;
            continue;
        }
        const bool closes = markup.substr(at + 1, 1) == "/";
        size_t end = at + (closes ? 2 : 1);
        std::string name;
        while (end < markup.size() && is_name(markup[end])) name += markup[end++];
        if (name.empty()) return "a bare <" + near(at);
        while (end < markup.size() && markup[end] != '>' && markup[end] != '/') {
            if (markup[end] == ' ' || markup[end] == '\n') {
                ++end;
                continue;
            }
            while (end < markup.size() && is_name(markup[end])) ++end;
            if (end + 1 >= markup.size() || markup[end] != '=') return "an attribute without a value" + near(at);
            const char quote = markup[end + 1];
            if (quote != '"' && quote != '\'') return "a value without quotes" + near(at);
            const size_t close = markup.find(quote, end + 2);
            if (close == markup.npos) return "a value without an end" + near(at);
            if (markup.substr(end + 2, close - end - 2).find('<') != markup.npos) return "a < in a value" + near(at);
            end = close + 1;
        }
        const bool empty = end < markup.size() && markup[end] == '/';
        if (empty) ++end;
        if (end >= markup.size() || markup[end] != '>') return "a tag without an end" + near(at);
        if (closes) {
            if (open.empty() || open.back() != name) return "</" + name + "> closes nothing" + near(at);
            open.pop_back();
        } else if (!empty) {
            open.push_back(name);
        }
        at = end + 1;
        if (!closes && (name == "style" || name == "script")) at = markup.find("</", at);
    }
    return open.empty() ? "" : "<" + open.back() + "> is not closed";
}

}  // namespace fastkv::test
