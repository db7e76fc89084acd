// Reads and checks everything that a user hands in, before any work begins.
#include "cli/prompt_input.h"

#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/input_text.h"
#include "cli/text.h"
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

std::vector<int64_t> read_token_ids(const std::string& path) {
    const std::string wanted = ": wanted a JSON array of token ids, or an object with \"prompt_tokens\"";
    const auto json = nlohmann::json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
    if (json.is_discarded()) fail(path + " is not JSON" + wanted);
    const auto* array = &json;
    if (json.is_object()) {
        if (!json.contains("prompt_tokens")) fail(path + " has no \"prompt_tokens\"" + wanted);
        array = &json.at("prompt_tokens");
    }
    if (!array->is_array()) fail(path + wanted);
    std::vector<int64_t> ids;
    for (const auto& id : *array) {
        if (!id.is_number_integer() || (id.is_number_unsigned() && id.get<uint64_t>() > uint64_t(INT64_MAX))) {
            fail(format("%s: element %zu is not a token id", path.c_str(), ids.size()));
        }
        ids.push_back(id.get<int64_t>());
    }
    if (ids.empty()) refuse(path + ": the prompt is empty");
    return ids;
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
        const int n_vocab = model.hparams().n_vocab;
        for (size_t i = 0; i < ids_.size(); ++i) {
            if (ids_[i] < 0 || ids_[i] >= n_vocab) {
                fail(format("%s: token %lld at index %zu is outside the vocabulary of %d", options_.tokens_file.c_str(),
                            static_cast<long long>(ids_[i]), i, n_vocab));
            }
            prompt.tokens.push_back(Token(ids_[i]));
        }
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
