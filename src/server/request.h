// What clients ask for: a request's JSON into a struct. Pure functions that throw nothing; names and meanings are
// OpenAI's, then llama.cpp's.
#pragma once

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <vector>

#include "fastkv/fastkv.h"
#include "server/api_error.h"

namespace fastkv::server {

/// What holds where a request does not say.
struct Defaults {
    MethodParams method;  ///< as given on the command line
    SamplerParams sampler;
    int n_predict = -1;  ///< -1: until the answer ends or the context is full
};

/// A prompt as it comes: text, or token ids.
struct PromptInput {
    std::optional<std::string> text;
    std::vector<Token> tokens = {};  ///< without a text
};

/// Of both completions and chat completions.
struct AnswerRequest {
    std::vector<ChatMessage> messages;  ///< of a chat
    std::vector<PromptInput> prompts;   ///< of a completion

    SamplerParams sampler;
    int max_tokens = -1;            ///< -1: until the answer ends or the context is full
    std::vector<std::string> stop;  ///< texts that end the answer and are not part of it
    std::optional<int> n_logprobs;  ///< log-probabilities, of so many alternatives
    bool echo = false;              ///< the prompt before the answer
    bool stream = false;
    bool include_usage = false;  ///< with stream: a last chunk says what was used

    MethodParams method;         ///< not resolved yet
    bool names_method = false;   ///< whether the request gives a method or parameters of its own
    bool report_layers = false;  ///< whether it asks what every layer kept
    bool reuse = true;           ///< whether stored sessions may be used
    std::string document_id;     ///< names the messages before the last, which are read once; "": none
};

/// POST /v1/chat/completions
Result<AnswerRequest> parse_chat(const nlohmann::json& body, const Defaults& defaults);

/// POST /v1/completions
Result<AnswerRequest> parse_completion(const nlohmann::json& body, const Defaults& defaults, int n_vocab);

/// POST /tokenize: llama.cpp's body has `content`, vLLM's `prompt`, and their defaults differ.
struct TokenizeRequest {
    std::string text;
    bool add_special = false;
    bool parse_special = true;
    bool with_pieces = false;
};
Result<TokenizeRequest> parse_tokenize(const nlohmann::json& body);

/// POST /slots/{id}?action=save|restore: {"filename": name}, a plain file name
Result<std::string> parse_slot_file(const nlohmann::json& body);

/// POST /detokenize
Result<std::vector<Token>> parse_detokenize(const nlohmann::json& body, int n_vocab);

}  // namespace fastkv::server
