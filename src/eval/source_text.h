// The text that prompts are cut from.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace fastkv::eval {

using CountTokens = std::function<int(std::string_view)>;

struct Sentence {
    std::string text;  ///< with the white space that follows it
    int n_tokens = 0;
};

/// A text as sentences, without end: past its last it begins again.
class SourceText {
  public:
    /// Sentences end after . ! or ? and white space, at an empty line, and where they grow too long.
    SourceText(std::string_view text, const CountTokens& count);

    /// Sentences from number `start` (modulo their count) on, as many as `n_tokens` hold.
    std::vector<Sentence> passage(uint64_t start, int n_tokens) const;

    size_t size() const { return sentences_.size(); }

  private:
    std::vector<Sentence> sentences_;
};

/// `text` without what is left of a character that was cut apart at its beginning or its end.
std::string whole_characters(std::string_view text);

/// English sentences of a small grammar, put together at random from about a hundred words: text that no answer hides
/// in, for whoever has none at hand. Less varied than real text, and so easier to compress.
std::string filler_text(uint64_t seed, int n_sentences);

}  // namespace fastkv::eval
