// Tokenizer and chat template, through libllama.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fastkv/model.h"
#include "model/gguf_file.h"

struct llama_vocab;

namespace fastkv {

/// libllama's vocabulary of a GGUF file, loaded without weights. Documentation of the functions:
/// fastkv/model.h.
class Vocabulary {
  public:
    /// `n_vocab`: rows of the embedding, which must be as many as there are tokens. Throws Error(failure) for
    /// a vocabulary that is damaged or of an unsupported kind.
    Vocabulary(const GgufFile& file, int n_vocab);
    ~Vocabulary();
    Vocabulary(Vocabulary&&) noexcept;

    std::vector<Token> tokenize(std::string_view text, bool add_special, bool parse_special) const;
    std::string piece(Token token, bool special) const;
    bool is_end_of_generation(Token token) const;
    std::optional<Token> bos_token() const;
    std::optional<Token> eos_token() const;
    bool has_chat_template() const;
    std::string chat_template() const;
    std::string chat_prompt(std::span<const ChatMessage> messages, bool add_generation_prompt) const;
    int n_tokens() const;

    const llama_vocab* handle() const;  ///< for libllama's samplers

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace fastkv
