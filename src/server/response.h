// Answers in OpenAI's shapes, whole and in chunks, with llama.cpp's `timings` and what the method did.
#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

#include "server/task.h"

namespace fastkv::server {

/// What all parts of one response have in common.
struct ResponseShape {
    bool chat = false;  ///< chat.completion, else text_completion
    bool with_logprobs = false;
    bool include_usage = false;  ///< of a stream
    std::string model;
    std::string id;
    int64_t created = 0;  ///< seconds since 1970
};

/// With a new id and the time.
ResponseShape new_shape(bool chat, const std::string& model);

/// All of one prompt's answer.
struct Choice {
    std::string text;
    std::vector<TokenLogprob> logprobs;
    Outcome outcome;
    std::shared_ptr<const PromptReport> report = {};
};

/// {"method": ..., "retain_rate": ...}: a method and all its parameters.
nlohmann::ordered_json method_json(const MethodParams& method);

/// The response as a whole.
std::string response_json(const ResponseShape& shape, const std::vector<Choice>& choices);

/// Lines of a stream: "data: {...}\n\n".
std::string first_chunk(const ResponseShape& shape);  ///< of a chat: whose turn it is; else ""
std::string piece_chunk(const ResponseShape& shape, const Piece& piece);
std::string outcome_chunk(const ResponseShape& shape, const Outcome& outcome);
std::string usage_chunk(const ResponseShape& shape, const std::vector<Choice>& choices);  ///< "" unless wanted

}  // namespace fastkv::server
