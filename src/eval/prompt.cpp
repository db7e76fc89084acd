#include "eval/prompt.h"

#include <algorithm>

#include "fastkv/error.h"

namespace fastkv::eval {

namespace {

// The text of the first and the last `n_tokens / 2` tokens. A character that was cut apart is left out.
std::string without_middle(const Model& model, const std::vector<Token>& tokens, int n_tokens) {
    const auto half = std::ptrdiff_t(n_tokens / 2);
    const std::string head = model.detokenize({tokens.begin(), tokens.begin() + half});
    const std::string tail = model.detokenize({tokens.end() - half, tokens.end()});
    return whole_characters(head) + whole_characters(tail);
}

Prompt cut_as_reference(const Model& model, const std::vector<Token>& tokens, int max_tokens) {
    Prompt prompt;
    prompt.tokens = model.tokenize(without_middle(model, tokens, max_tokens), /*add_special=*/true, true);
    prompt.n_truncated = int(tokens.size()) - int(prompt.tokens.size());
    return prompt;
}

}  // namespace

std::vector<Token> prompt_tokens(const Model& model, const std::string& message, bool chat) {
    if (!chat || !model.has_chat_template()) return model.tokenize(message, /*add_special=*/true, true);
    const ChatMessage user{"user", message};
    return model.tokenize(model.chat_prompt({&user, 1}), /*add_special=*/true, true);
}

Prompt cut_prompt(const Model& model, const std::string& message, bool chat, int max_tokens, Truncation truncation) {
    Prompt prompt{prompt_tokens(model, message, chat)};
    const auto n_whole = int(prompt.tokens.size());
    if (n_whole <= max_tokens) return prompt;
    if (truncation == Truncation::reference) return cut_as_reference(model, prompt.tokens, max_tokens);
    const std::vector<Token> tokens = model.tokenize(message, false, false);
    int n_kept = int(tokens.size()) - (n_whole - max_tokens);
    // Where the halves meet other tokens may form, more than were there.
    for (; n_kept > 1; n_kept -= std::max(2, int(prompt.tokens.size()) - max_tokens)) {
        prompt.tokens = prompt_tokens(model, without_middle(model, tokens, n_kept), chat);
        prompt.n_truncated = n_whole - int(prompt.tokens.size());
        if (int(prompt.tokens.size()) <= max_tokens) return prompt;
    }
    fail("a prompt of " + std::to_string(max_tokens) + " tokens has no room for a message: its template takes " +
         std::to_string(n_whole - int(tokens.size())));
}

CountTokens token_counter(const Model& model) {
    return [model](std::string_view text) { return int(model.tokenize(text, false, false).size()); };
}

}  // namespace fastkv::eval
