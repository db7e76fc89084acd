// JSON as all of fastkv writes it.
#pragma once

#include <nlohmann/json.hpp>

#include <string>

#include "fastkv/method.h"

namespace fastkv::text {

/// `json` as text, on one line or with `indent` spaces a level. Texts in it that are no UTF-8 (the name of a file, an
/// answer that was cut within a character) are made so: JSON must be.
std::string json_text(const nlohmann::ordered_json& json, int indent = -1);

/// All parameters that are given, by name: numbers as numbers, words as words.
nlohmann::ordered_json params_json(const MethodParams& method);

}  // namespace fastkv::text
