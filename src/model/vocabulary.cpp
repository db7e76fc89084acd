// libllama tokenizes; what it would abort on is checked before it sees the file, what it cannot take before
// it sees the text.
#include "model/vocabulary.h"

#include <pthread.h>

#include <algorithm>
#include <exception>
#include <functional>
#include <limits>
#include <string_view>
#include <unordered_set>

#include "fastkv/error.h"
#include "llama.h"
#include "model/log.h"
#include "model/memory.h"

namespace fastkv {

namespace {

/// libllama asserts that tokens differ, as it reads them: up to a zero byte, and an empty one by its number.
void check_tokens(const GgufFile& file, int n_vocab) {
    const auto tokens = file.strings("tokenizer.ggml.tokens");
    if (!tokens) fail(file.path() + ": key tokenizer.ggml.tokens is missing");
    if (tokens->size() != static_cast<size_t>(n_vocab)) {
        fail(file.path() + ": key tokenizer.ggml.tokens has " + std::to_string(tokens->size()) +
             " tokens, but token_embd.weight has " + std::to_string(n_vocab) + " rows");
    }
    std::unordered_set<std::string> seen;
    seen.reserve(tokens->size());
    for (size_t i = 0; i < tokens->size(); ++i) {
        const std::string_view token = (*tokens)[i];
        if (!seen.insert(token.empty() ? "[EMPTY_" + std::to_string(i) + "]" : std::string(token)).second) {
            fail(file.path() + ": key tokenizer.ggml.tokens: token " + std::to_string(i) + " is there twice");
        }
    }
}

/// Only the two kinds of tokenizer that llama and qwen2 models have: libllama trusts files of its other kinds
/// more than this program can.
void check_kind(const GgufFile& file) {
    const std::string kind = file.require_string("tokenizer.ggml.model");
    if (kind != "llama" && kind != "gpt2") {
        fail(file.path() + ": key tokenizer.ggml.model is \"" + kind +
             "\", which is not supported (llama and gpt2 are)");
    }
}

/// The number of bytes of the UTF-8 character at the start of `text`, or 0 if there is none.
size_t utf8_length(std::string_view text) {
    const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char first = byte(0);
    if (first < 0x80) return 1;
    const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
    for (size_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xc0) != 0x80) return 0;
    }
    // Longer than needed, a surrogate, past the last code point.
    if ((first == 0xe0 && byte(1) < 0xa0) || (first == 0xed && byte(1) > 0x9f) || (first == 0xf0 && byte(1) < 0x90) ||
        (first == 0xf4 && byte(1) > 0x8f)) {
        return 0;
    }
    return length;
}

void check_utf8(std::string_view text) {
    for (size_t i = 0; i < text.size();) {
        const size_t length = utf8_length(text.substr(i));
        if (length == 0) {
            fail("the text is not valid UTF-8: wrong at byte " + std::to_string(i) +
                 " (convert it, for example with iconv -t UTF-8)");
        }
        i += length;
    }
}

/// The longest stretch of `text` that is all white space or has none, in bytes.
size_t longest_run(std::string_view text) {
    const auto is_space = [](char c) { return c == ' ' || (c >= '\t' && c <= '\r'); };
    size_t longest = 0, start = 0;
    for (size_t i = 1; i <= text.size(); ++i) {
        if (i < text.size() && is_space(text[i]) == is_space(text[start])) continue;
        longest = std::max(longest, i - start);
        start = i;
    }
    return longest;
}

/// Calls `action` on a thread of its own with a stack of `bytes`; exceptions come out here.
void with_stack(size_t bytes, const std::function<void()>& action) {
    struct Call {
        const std::function<void()>* action;
        std::exception_ptr error;
    } call{&action, nullptr};
    const auto run = [](void* argument) -> void* {
        auto& c = *static_cast<Call*>(argument);
        try {
            (*c.action)();
        } catch (...) {
            c.error = std::current_exception();
        }
        return nullptr;
    };
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    const bool started =
        pthread_attr_setstacksize(&attributes, bytes) == 0 && pthread_create(&thread, &attributes, run, &call) == 0;
    pthread_attr_destroy(&attributes);
    if (!started) {
        fail("not enough memory: tokenizing a text with very long words needs a stack of " + format_bytes(bytes));
    }
    pthread_join(thread, nullptr);
    if (call.error) std::rethrow_exception(call.error);
}

/// Several of libllama's pre-tokenizers (Mistral's among them) are std::regex, which recurses once per
/// character of a word or of a stretch of white space: a line of 100,000 dashes would overflow an ordinary
/// stack.
void with_stack_for(std::string_view text, const std::function<void()>& action) {
    // Measured: up to 420 bytes of stack per character. A match can span two runs, and other compilers need
    // more.
    constexpr size_t harmless = 1024, bytes_per_byte = 4096;
    const size_t run = longest_run(text);
    if (run <= harmless) return action();
    with_stack((size_t{8} << 20) + GGML_PAD(run * bytes_per_byte, size_t{1} << 16), action);
}

struct ModelFree {
    void operator()(llama_model* model) const { llama_model_free(model); }
};

}  // namespace

struct Vocabulary::Impl {
    std::unique_ptr<llama_model, ModelFree> model;
    const llama_vocab* vocab = nullptr;
    const char* chat_template = nullptr;  // the model's, owned by it; nullptr if it has none

    [[noreturn]] void template_error() const {
        fail(chat_template ? "the model's chat template is not one that libllama knows (use --raw, or another model)"
                           : "the model has no chat template (use --raw, or an instruction-tuned model)");
    }

    /// The length of the conversation rendered, negative if the template is unknown; written to `out` up to
    /// `size`.
    int render(const std::vector<llama_chat_message>& messages, bool add_generation_prompt, char* out,
               size_t size) const {
        if (!chat_template) return -1;
        return llama_chat_apply_template(chat_template, messages.data(), messages.size(), add_generation_prompt, out,
                                         static_cast<int32_t>(size));
    }
};

Vocabulary::Vocabulary(const GgufFile& file, int n_vocab) : impl_(std::make_unique<Impl>()) {
    check_kind(file);
    check_tokens(file, n_vocab);
    LogCapture log;
    llama_model_params params = llama_model_default_params();
    params.vocab_only = true;
    params.n_gpu_layers = 0;
    impl_->model.reset(llama_model_load_from_file(file.path().c_str(), params));
    if (!impl_->model) fail(file.path() + ": libllama cannot read the vocabulary: " + log.first_error());
    impl_->vocab = llama_model_get_vocab(impl_->model.get());
    impl_->chat_template = llama_model_chat_template(impl_->model.get(), nullptr);

    // Tokenizing would abort.
    const bool no_bos = llama_vocab_get_add_bos(impl_->vocab) && llama_vocab_bos(impl_->vocab) == LLAMA_TOKEN_NULL;
    const bool no_eos = llama_vocab_get_add_eos(impl_->vocab) && llama_vocab_eos(impl_->vocab) == LLAMA_TOKEN_NULL;
    if (no_bos || no_eos) {
        fail(file.path() + ": key tokenizer.ggml.add_" + (no_bos ? "bos" : "eos") +
             "_token asks for a token that the vocabulary does not have");
    }
}

Vocabulary::~Vocabulary() = default;
Vocabulary::Vocabulary(Vocabulary&&) noexcept = default;

int Vocabulary::n_tokens() const { return llama_vocab_n_tokens(impl_->vocab); }

const llama_vocab* Vocabulary::handle() const { return impl_->vocab; }

std::vector<Token> Vocabulary::tokenize(std::string_view text, bool add_special, bool parse_special) const {
    check_utf8(text);
    if (text.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max()) / 2) {
        fail("the text is too long: " + std::to_string(text.size()) + " bytes");
    }
    const auto fill = [&](std::vector<Token>& tokens) {
        int n = 0;
        with_stack_for(text, [&] {
            n = llama_tokenize(impl_->vocab, text.data(), static_cast<int32_t>(text.size()), tokens.data(),
                               static_cast<int32_t>(tokens.size()), add_special, parse_special);
        });
        return n;
    };
    try {
        std::vector<Token> tokens(text.size() + 16);  // enough nearly always: a token is a byte or more
        int n = fill(tokens);
        if (n < 0 && n != std::numeric_limits<int32_t>::min()) {
            tokens.resize(static_cast<size_t>(-n));
            n = fill(tokens);
        }
        if (n < 0) fail("the text makes too many tokens");
        tokens.resize(static_cast<size_t>(n));
        return tokens;
    } catch (const Error&) {
        throw;
    } catch (const std::exception& error) {  // a vocabulary without tokens for single bytes, for one
        fail(std::string("the model's vocabulary cannot express the text: ") + error.what());
    }
}

std::string Vocabulary::piece(Token token, bool special) const {
    if (token < 0 || token >= n_tokens()) {
        refuse("token " + std::to_string(token) + " is outside the vocabulary (" + std::to_string(n_tokens()) +
               " tokens)");
    }
    std::string text(32, '\0');
    const auto fill = [&] {
        return llama_token_to_piece(impl_->vocab, token, text.data(), static_cast<int32_t>(text.size()), 0, special);
    };
    int n = fill();
    if (n < 0) {
        text.resize(static_cast<size_t>(-n));
        n = fill();
    }
    text.resize(static_cast<size_t>(std::max(n, 0)));
    return text;
}

bool Vocabulary::is_end_of_generation(Token token) const {
    return token >= 0 && token < n_tokens() && llama_vocab_is_eog(impl_->vocab, token);
}

namespace {

std::optional<Token> token_or_none(llama_token token) {
    return token == LLAMA_TOKEN_NULL ? std::nullopt : std::optional<Token>(token);
}

}  // namespace

std::optional<Token> Vocabulary::bos_token() const { return token_or_none(llama_vocab_bos(impl_->vocab)); }
std::optional<Token> Vocabulary::eos_token() const { return token_or_none(llama_vocab_eos(impl_->vocab)); }

std::string Vocabulary::chat_template() const { return impl_->chat_template ? impl_->chat_template : ""; }

bool Vocabulary::has_chat_template() const {
    const std::vector<llama_chat_message> probe = {{"user", "?"}};
    return impl_->render(probe, true, nullptr, 0) >= 0;
}

std::string Vocabulary::chat_prompt(std::span<const ChatMessage> messages, bool add_generation_prompt) const {
    if (messages.empty()) refuse("a conversation needs at least one message");
    std::vector<llama_chat_message> turns;
    for (const ChatMessage& message : messages) {
        check_utf8(message.content);
        if (message.content.find('\0') != std::string::npos) {
            // libllama's templates take C strings and would drop the rest of the text.
            fail("the text contains a zero byte at byte " + std::to_string(message.content.find('\0')) +
                 " (is it a text file?)");
        }
        turns.push_back({message.role.c_str(), message.content.c_str()});
    }
    const int size = impl_->render(turns, add_generation_prompt, nullptr, 0);
    if (size < 0) impl_->template_error();
    std::string text(static_cast<size_t>(size) + 1, '\0');
    impl_->render(turns, add_generation_prompt, text.data(), text.size());
    text.resize(static_cast<size_t>(size));
    return text;
}

}  // namespace fastkv
