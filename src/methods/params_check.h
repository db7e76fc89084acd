// The refusals that methods share. Messages name the flag, as users and the HTTP body know a parameter by it.
#pragma once

#include <cstdio>
#include <optional>
#include <string>

#include "fastkv/error.h"

namespace fastkv {

/// A number as a person would write it: 7, 0.1, nan.
inline std::string number_text(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.10g", value);
    return text;
}

/// A method refuses what it would ignore; `user` is the method, or the setting that makes the flag idle.
template <class T>
void refuse_unused(const std::optional<T>& value, const std::string& flag, const std::string& user) {
    if (value) refuse(flag + " is not used " + user);
}

/// A share of the tokens. The comparison is written so that NaN fails it.
inline double checked_rate(double rate, const std::string& flag) {
    if (!(rate > 0 && rate <= 1)) refuse(flag + " " + number_text(rate) + " is outside (0, 1]");
    return rate;
}

inline int checked_at_least(int value, int least, const std::string& flag) {
    if (value < least) {
        refuse(flag + " " + std::to_string(value) + " is too small: at least " + std::to_string(least));
    }
    return value;
}

}  // namespace fastkv
