// A sample's message as the model reads it.
#pragma once

#include <string>
#include <vector>

#include "eval/source_text.h"
#include "fastkv/model.h"

namespace fastkv::eval {

/// How a prompt that is too long is cut. Always in the middle: questions stand at the ends.
enum class Truncation {
    message,    ///< the message loses its middle, the chat template stays whole
    reference,  ///< the reference's: the rendered prompt loses its middle and its control tokens; the words of the
                ///< template that are left are read as text, without a template
};

struct Prompt {
    std::vector<Token> tokens;
    int n_truncated = 0;  ///< tokens that were cut out
};

/// One user message in the model's chat template, or with `chat` false, or where the model has no template, the text as
/// it is. In both cases the tokens that the model starts with are added once.
std::vector<Token> prompt_tokens(const Model& model, const std::string& message, bool chat);

/// The same, cut to `max_tokens`, or a token or two less. Throws Error(failure) where the template alone has more.
Prompt cut_prompt(const Model& model, const std::string& message, bool chat, int max_tokens, Truncation truncation);

/// Tokens of a piece of text, without those that a prompt starts with.
CountTokens token_counter(const Model& model);

}  // namespace fastkv::eval
