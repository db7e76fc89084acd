// One token through all layers, over their compressed caches.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/attention.h"
#include "engine/attention_record.h"
#include "engine/cache.h"
#include "engine/graph.h"
#include "engine/kernel_choice.h"
#include "engine/layer_graph.h"
#include "methods/eviction.h"
#include "model/model_impl.h"

namespace fastkv {

/// Decodes token after token into the same caches. The graph is built once and run for every token: what changes (rows,
/// position, where the new entries go) are inputs, and fastkv's attention reads a cache's length when it runs. It is
/// built again only when a cache had to move, or, with ggml's attention, for another 256 entries.
class Decoder {
  public:
    /// `evictions` [n_layer] say what leaves the caches after each token; nullptr: nothing. `record`, if there is one,
    /// is shown the attention of every token.
    Decoder(const Model::Impl& model, std::vector<LayerCache>& caches,
            std::vector<std::unique_ptr<Eviction>>& evictions, AttentionRecord* record);

    /// Appends `token` at `position` to every cache; `row` [n_embd] receives the residual stream after the last layer.
    void run(Token token, int position, std::span<float> row);

  private:
    /// Neighbouring layers on one device: one graph.
    struct Segment {
        const Device* device;
        int first_layer;
        int end_layer;
        KernelChoice choice;
        ggml_gallocr_ptr allocator;
        std::unique_ptr<Graph> graph = nullptr;
        ggml_tensor* output = nullptr;  // [n_embd]
    };

    /// What a layer's nodes read besides the row, and what they leave.
    struct LayerNodes {
        std::vector<int64_t> kv_rows;     // [cached heads] where the new entry goes
        std::vector<CacheGroup> groups;   // for ggml's attention
        ggml_tensor* weights = nullptr;   // [row length, n_head] probabilities of the token, where somebody reads them
        int weight_row = 0;               // the row length
        std::vector<float> sink_keys;     // [sinks][cached heads][head_dim] of a rolling cache, as the prompt left them
        std::vector<int64_t> sink_rows;   // [sinks][cached heads]
        std::vector<int32_t> sink_shift;  // [sinks] positions that they are turned on by
    };

    void append(int position);
    void build(Segment& segment);
    ggml_tensor* build_layer(Graph& graph, const KernelChoice& choice, int layer, ggml_tensor* x,
                             ggml_tensor* position);
    void read_sinks(int layer);
    void place_sinks(int layer);
    void show(const Segment& segment, int layer);
    std::vector<std::vector<float>> read_attention(const Segment& segment, int layer) const;

    const Model::Impl& model_;
    std::vector<LayerCache>& caches_;                    // [n_layer]
    std::vector<std::unique_ptr<Eviction>>& evictions_;  // [n_layer]
    AttentionRecord* record_;
    std::vector<LayerNodes> nodes_;  // [n_layer]
    std::vector<Segment> segments_;
    std::vector<float> row_;  // [n_embd] input of a segment
    int32_t position_ = 0;
    bool stale_ = true;  // graphs must be built (again)
};

}  // namespace fastkv
