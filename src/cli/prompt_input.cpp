// Reads and checks everything that a user hands in, before any work begins.
#include "cli/prompt_input.h"

#include <unistd.h>

#include <cstdio>

#include "cli/input_text.h"
#include "cli/token_file.h"
#include "fastkv/error.h"

namespace fastkv::cli {

namespace {

void refuse_contradictions(const PromptOptions& options) {
    const bool has_tokens = !options.tokens_file.empty();
    if (!options.file.empty() && options.has_text) {
        refuse("-f and -p are both given: one document at a time; the question goes into -q");
    }
    if (has_tokens && (!options.file.empty() || options.has_text || !options.question.empty())) {
        refuse("--tokens is the whole prompt: it cannot be combined with -f, -p or -q");
    }
}

std::string read_document(const PromptOptions& options) {
    if (options.has_text) return checked_text(options.text, "the text of -p");
    if (!options.file.empty() && options.file != "-") {
        return read_text_file(options.file);
    }
    const bool is_terminal = isatty(STDIN_FILENO) == 1;
    if (is_terminal && options.file.empty() && !options.question.empty()) return "";
    if (is_terminal && options.file.empty()) refuse("no prompt: give -f FILE, -p TEXT, or pipe a text in");
    return checked_text(read_stream(stdin, "standard input"), "standard input");
}

}  // namespace

PromptInput::PromptInput(const PromptOptions& options) : options_(options) {
    refuse_contradictions(options);
    if (!options.tokens_file.empty()) {
        ids_ = read_token_ids(options.tokens_file);
        return;
    }
    const std::string document = read_document(options);
    message_ = join_message(document, checked_text(options.question, "the question of -q"));
    if (is_blank(message_)) refuse("the prompt is empty");
}

Prompt PromptInput::tokenize(const Model& model) const {
    Prompt prompt;
    if (!ids_.empty()) {
        prompt.tokens = checked_tokens(ids_, options_.tokens_file, model.hparams().n_vocab);
        return prompt;
    }
    prompt.text = message_;
    if (!options_.raw && model.has_chat_template()) {
        const ChatMessage user{"user", message_};
        prompt.text = model.chat_prompt({&user, 1});
    } else if (!options_.raw) {
        std::fprintf(stderr, "fastkv: note: %s has no chat template; the text goes in as it is, as with --raw\n",
                     model.path().c_str());
    }
    prompt.tokens = model.tokenize(prompt.text, /*add_special=*/true, /*parse_special=*/true);
    if (prompt.tokens.empty()) refuse("the prompt is empty");
    return prompt;
}

}  // namespace fastkv::cli
