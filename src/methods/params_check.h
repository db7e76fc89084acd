// The refusals that methods share. Messages name the flag, as users and the HTTP body know a parameter by it.
#pragma once

#include <cmath>
#include <optional>
#include <string>

#include "fastkv/method.h"
#include "methods/values.h"

namespace fastkv {

/// A method refuses what it would ignore; `user` is the method, or the setting that makes the flag idle.
template <class T>
void refuse_unused(const std::optional<T>& value, const std::string& flag, const std::string& user) {
    if (value) refuse(flag + " is not used " + user);
}

/// Refuses every parameter that is not among the method's own (MethodInfo::params). `why` goes on from its name:
/// "which keeps everything".
void refuse_foreign(const MethodParams& params, const MethodInfo& info, const std::string& why);

/// A share of the tokens. The comparison is written so that NaN fails it.
inline double checked_rate(double rate, const std::string& flag) {
    if (!(rate > 0 && rate <= 1)) refuse(flag + " " + number_text(rate) + " is outside (0, 1]");
    return rate;
}

/// A share that may be none.
inline double checked_share(double share, const std::string& flag) {
    if (!(share >= 0 && share <= 1)) refuse(flag + " " + number_text(share) + " is outside [0, 1]");
    return share;
}

inline double checked_positive(double value, const std::string& flag) {
    if (!(value > 0 && std::isfinite(value))) refuse(flag + " " + number_text(value) + " is not above 0");
    return value;
}

inline int checked_at_least(int value, int least, const std::string& flag) {
    if (value < least) {
        refuse(flag + " " + std::to_string(value) + " is too small: at least " + std::to_string(least));
    }
    return value;
}

/// A layer of the model, from 0. `or_else` ends the refusal: ", or off".
inline int checked_layer(int layer, int n_layer, const std::string& flag, const std::string& or_else = "") {
    if (layer < 0 || layer >= n_layer) {
        refuse(flag + " " + std::to_string(layer) + " is outside the model: its layers are 0 to " +
               std::to_string(n_layer - 1) + or_else);
    }
    return layer;
}

}  // namespace fastkv
