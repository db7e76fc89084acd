// What tests compare of two sessions.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include "fastkv/fastkv.h"

namespace fastkv::test {

/// Tokens for a model without meaning; the first three of a vocabulary are control tokens.
inline std::vector<Token> random_tokens(int n_vocab, int count, uint32_t seed = 1) {
    std::mt19937 random(seed);
    std::uniform_int_distribution<Token> token(3, n_vocab - 1);
    std::vector<Token> tokens(static_cast<size_t>(count));
    for (Token& t : tokens) t = token(random);
    return tokens;
}

inline std::vector<Token> random_tokens(const Model& model, int count, uint32_t seed = 1) {
    return random_tokens(model.hparams().n_vocab, count, seed);
}

inline double largest_difference(std::span<const float> a, std::span<const float> b) {
    if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
    double largest = 0;
    for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(double(a[i]) - double(b[i])));
    return largest;
}

inline Token best(std::span<const float> logits) {
    return Token(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

/// How many positions are in both of two ascending lists.
inline size_t common(const std::vector<int>& a, const std::vector<int>& b) {
    std::vector<int> both;
    std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
    return both.size();
}

/// The share of positions of `a` that `b` keeps too, over all layers and heads.
inline double overlap(const Session& a, const Session& b) {
    size_t both = 0, all = 0;
    for (size_t layer = 0; layer < a.layers().size(); ++layer) {
        for (int head = 0; head < a.layers()[layer].n_head_cached; ++head) {
            both += common(a.layers()[layer].kept_by(head), b.layers()[layer].kept_by(head));
            all += a.layers()[layer].kept_by(head).size();
        }
    }
    return double(both) / double(all);
}

}  // namespace fastkv::test
