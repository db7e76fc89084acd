// Values as people write them: numbers, and the words of a choice.
#pragma once

#include <charconv>
#include <string>
#include <utility>
#include <vector>

#include "fastkv/error.h"

namespace fastkv {

/// A number in as few digits as it needs: 7, 0.1, nan.
template <class T>
std::string number_text(T value) {
    char text[32];
    return {text, std::to_chars(text, text + sizeof text, value).ptr};
}

/// The whole of `text` as a number. Throws Error(usage): "--kernel many is not a whole number".
template <class T>
T parse_number(const std::string& flag, const std::string& text, const std::string& kind) {
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error == std::errc::result_out_of_range) refuse(flag + " " + text + " is out of range");
    if (error != std::errc() || end != text.data() + text.size()) refuse(flag + " " + text + " is not " + kind);
    return value;
}

/// The words for the values of an enum.
template <class T>
using Choices = std::vector<std::pair<std::string, T>>;

template <class T>
std::string name_of(const Choices<T>& choices, T value) {
    for (const auto& [name, choice] : choices) {
        if (choice == value) return name;
    }
    return "?";
}

/// The words, as in "max, avg".
template <class T>
std::string join_names(const Choices<T>& choices, const std::string& separator) {
    std::string names;
    for (const auto& [name, value] : choices) names += (names.empty() ? "" : separator) + name;
    return names;
}

/// Throws Error(usage), listing the words, if `text` is none of them.
template <class T>
T choose(const Choices<T>& choices, const std::string& flag, const std::string& text) {
    for (const auto& [name, value] : choices) {
        if (name == text) return value;
    }
    refuse(flag + " " + text + " is unknown; there are: " + join_names(choices, ", "));
}

}  // namespace fastkv
