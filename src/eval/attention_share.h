// How much of an answer's attention to its prompt falls on the tokens that a method kept.
#pragma once

#include <span>
#include <vector>

#include "fastkv/session.h"

namespace fastkv::eval {

/// One layer's attention from an answer back to the prompt: [n_head][n_prompt] probabilities, added up over the
/// answer's tokens, as Session::recorded_attention() gives it.
struct AnswerAttention {
    std::span<const float> sums;
    int n_head = 0;
    int n_prompt = 0;

    std::span<const float> of_head(int head) const {
        return sums.subspan(size_t(head) * size_t(n_prompt), size_t(n_prompt));
    }
};

/// Shares of the attention to the tokens from position `first` on, over all heads, in [0, 1].
struct AttentionShare {
    double kept = 0;  ///< that falls on what the layer keeps
    double best = 0;  ///< that the same number of tokens could have: in every cached head those with most
};

/// `layer` is what a method did with the same prompt. Query heads look at what their cached head keeps.
AttentionShare kept_share(const AnswerAttention& attention, const LayerReport& layer, int first);

/// The share that falls on `positions`, over the layers `attention`: what tokens that did not go on could have had.
double share_on(std::span<const AnswerAttention> attention, const std::vector<int>& positions, int first);

}  // namespace fastkv::eval
