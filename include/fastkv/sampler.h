// From logits to the next token. The sampling itself is libllama's.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "fastkv/model.h"

namespace fastkv {

/// Names and defaults as in llama.cpp, but greedy unless a temperature is given: questions about a document
/// want the most likely answer.
struct SamplerParams {
    float temperature = 0;        ///< 0: always the most likely token
    int top_k = 40;               ///< 0: all
    float top_p = 0.95f;          ///< 1: off
    float min_p = 0.05f;          ///< 0: off
    float repeat_penalty = 1;     ///< 1: off
    float frequency_penalty = 0;  ///< taken from a token's logit for every time that it was sampled; 0: off
    float presence_penalty = 0;   ///< taken once from the logits of tokens that were sampled; 0: off
    int repeat_last_n = 64;       ///< tokens that the penalties look back on
    uint32_t seed = 0xFFFFFFFF;   ///< 0xFFFFFFFF: a random one
    bool ignore_eos = false;      ///< never pick a token that ends the answer
};

class Sampler {
  public:
    /// Throws Error(usage) for a parameter out of range.
    Sampler(const Model& model, const SamplerParams& params);
    ~Sampler();
    Sampler(Sampler&&) noexcept;
    Sampler& operator=(Sampler&&) noexcept;

    /// Picks the next token from logits [n_vocab] and remembers it for the repeat penalty.
    Token sample(std::span<const float> logits);

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace fastkv
