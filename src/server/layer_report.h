// What every layer did with the prompt's tokens, for whoever asks with "fastkv": {"layers": true}.
#pragma once

#include <nlohmann/json.hpp>

#include <span>
#include <string>
#include <vector>

#include "fastkv/fastkv.h"

namespace fastkv::server {

struct PromptReport {
    std::vector<std::string> pieces;  ///< [n_prompt] the tokens as text; together the prompt
    std::vector<LayerReport> layers;  ///< [n_layer]
};

/// `prompt` token by token in valid UTF-8: a character that several tokens share is with the last of them.
std::vector<std::string> pieces_of(const Model& model, std::span<const Token> prompt);

/// {"layers": [{"layer", "rows", "cached", "n_head_cached", "kept", "propagated"}], "pieces": [...]}. Positions are
/// ranges [first, last]; `kept` has a list of them for each cached head, or one for all.
nlohmann::ordered_json report_json(const PromptReport& report);

}  // namespace fastkv::server
