// What a tuning found, as it is kept in the user's configuration.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "fastkv/method.h"

namespace fastkv::tune {

/// A choice for one model file.
struct Tuned {
    MethodParams method;  ///< with the chosen parameters given, no others
    /// How it was found, for people: names and texts. Nothing reads them.
    std::vector<std::pair<std::string, std::string>> found;
};

/// $XDG_CONFIG_HOME/fastkv/tuned/HASH.json, else below $HOME/.config; "" where neither is set.
std::string tuned_path(const std::string& hash);

/// As JSON, and back. tuned_of() throws Error(failure) naming `path` where the text is no such file.
std::string tuned_json(const Tuned& tuned, const std::string& model_name);
Tuned tuned_of(const std::string& json, const std::string& path);

}  // namespace fastkv::tune
