// Log-probabilities of tokens, and the two shapes in which OpenAI's API gives them.
#pragma once

#include <nlohmann/json.hpp>

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fastkv/model.h"

namespace fastkv::server {

struct TokenLogprob {
    std::string text;                                 ///< the token's bytes
    std::optional<double> logprob;                    ///< nothing before it: none
    std::vector<std::pair<std::string, double>> top;  ///< the most likely ones, best first
    size_t begins_at = 0;                             ///< bytes of text before it, prompt included where it is echoed
};

/// `token` as the model's logits [n_vocab] see it, with the `n_top` most likely ones.
TokenLogprob logprob_of(const Model& model, std::span<const float> logits, Token token, int n_top);

/// {"content": [{"token", "logprob", "bytes", "top_logprobs": [...]}]}
nlohmann::ordered_json chat_logprobs_json(std::span<const TokenLogprob> tokens);

/// {"tokens", "token_logprobs", "top_logprobs", "text_offset"}
nlohmann::ordered_json completion_logprobs_json(std::span<const TokenLogprob> tokens);

}  // namespace fastkv::server
