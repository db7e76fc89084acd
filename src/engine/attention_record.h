// What the tokens of an answer attended to in the prompt, added up.
#pragma once

#include <span>
#include <vector>

#include "engine/cache.h"

namespace fastkv {

class AttentionRecord {
  public:
    /// `restarted`: where the cache's first positions stand in the prompt; empty: they are the prompt's.
    AttentionRecord(int n_layer, int n_head, int n_prompt, std::vector<int> restarted);

    /// A token's probabilities in one layer: [n_head][entries of its head of `cache`].
    void add(int layer, const LayerCache& cache, std::span<const std::vector<float>> attention);

    /// [n_head][n_prompt]
    std::span<const float> layer(int index) const { return sums_[size_t(index)]; }

  private:
    int n_head_, n_prompt_;
    std::vector<int> restarted_;
    std::vector<std::vector<float>> sums_;  // [n_layer][n_head][n_prompt]
};

}  // namespace fastkv
