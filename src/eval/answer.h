// A greedy answer to one prompt, under one method.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "fastkv/fastkv.h"

namespace fastkv::eval {

struct AnswerRules {
    int n_predict = 0;             ///< at most so many tokens
    bool ends_at_newline = false;  ///< over with a token that is "\n" and nothing else
    bool forbids_empty = false;    ///< the first token may not be one that ends answers
};

struct Answer {
    std::string text;  ///< without control tokens
    int n_tokens = 0;  ///< with the one that ended it
    double prefill_seconds = 0, decode_seconds = 0;
    uint64_t kv_cache_bytes = 0;
};

/// Reads the prompt and takes the most likely token (the first of equal ones) until the answer is over. `progress` is
/// called while reading, and before every token with all rows done; where it returns false, Error(cancelled) is thrown.
/// Throws like Session.
Answer answer(const Model& model, const MethodParams& method, SessionParams session, std::span<const Token> prompt,
              const AnswerRules& rules, const ProgressCallback& progress);

}  // namespace fastkv::eval
