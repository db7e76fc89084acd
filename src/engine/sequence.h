// What a session brings to a step of decoding: its caches, what the graph reads of them, and what becomes of them
// after.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/attention.h"
#include "engine/attention_record.h"
#include "engine/cache.h"
#include "methods/eviction.h"
#include "model/model_impl.h"

namespace fastkv {

class Sequence {
  public:
    /// What a layer's nodes read of the sequence. Their addresses stay the same as long as layout() does.
    struct LayerInputs {
        std::vector<int64_t> kv_rows;     // [cached heads] where the new entry goes
        std::vector<CacheGroup> groups;   // for ggml's attention
        std::vector<float> sink_keys;     // [sinks][cached heads][head_dim] of a rolling cache, as the prompt left them
        std::vector<int64_t> sink_rows;   // [sinks][cached heads]
        std::vector<int32_t> sink_shift;  // [sinks] positions that they are turned on by
    };

    /// `evictions` [n_layer] say what leaves the caches after each token; nullptr: nothing. `record`, if there is one,
    /// is shown the attention of every token.
    Sequence(const Model::Impl& model, std::vector<LayerCache>& caches,
             std::vector<std::unique_ptr<Eviction>>& evictions, AttentionRecord* record);
    Sequence(const Sequence&) = delete;
    Sequence& operator=(const Sequence&) = delete;

    /// Goes on with those sink keys of another sequence. Before the first token.
    void set_sink_keys(int layer, std::vector<float> keys);

    /// Makes room in every cache for a token at `position` and sets the inputs of every layer.
    void append(int position);

    const int32_t& position() const { return position_; }
    const LayerCache& cache(int layer) const { return caches_[size_t(layer)]; }
    const LayerInputs& inputs(int layer) const { return inputs_[size_t(layer)]; }

    /// Whether a layer's show() reads the token's attention probabilities.
    bool reads_attention(int layer) const;

    /// Lets the record and the layer's eviction see the token, and drops what the eviction names. `attention`
    /// [n_head][entries of its head]: the probabilities with which it attended, or empty.
    void show(int layer, std::span<const std::vector<float>> attention);

    /// Changes when graphs that use the sequence must be built again: a cache had to move, or, with ggml's attention,
    /// it has 256 entries more. No two sequences ever have the same.
    uint64_t layout() const { return layout_; }

  private:
    void read_sinks(int layer);
    void place_sinks(int layer);

    const Model::Impl& model_;
    std::vector<LayerCache>& caches_;                    // [n_layer]
    std::vector<std::unique_ptr<Eviction>>& evictions_;  // [n_layer]
    AttentionRecord* record_;
    std::vector<LayerInputs> inputs_;  // [n_layer]
    int32_t position_ = 0;             // of the newest token
    uint64_t layout_;
    bool changed_ = false;  // since layout_ was drawn
};

}  // namespace fastkv
