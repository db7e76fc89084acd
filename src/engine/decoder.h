// One token through all layers, over their compressed caches.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/attention.h"
#include "engine/cache.h"
#include "engine/graph.h"
#include "engine/layer_graph.h"
#include "model/model_impl.h"

namespace fastkv {

/// Decodes token after token into the same caches. The graph is built once and run for every token: what changes (row,
/// position, where the new entry goes) are inputs, and fastkv's attention reads a cache's length when it runs. It is
/// built again only when a cache had to move, or, with ggml's attention, for another 256 entries.
class Decoder {
  public:
    Decoder(const Model::Impl& model, std::vector<LayerCache>& caches);

    /// Appends `token` at `position` to every cache; `row` [n_embd] receives the residual stream after the last layer.
    void run(Token token, int position, std::span<float> row);

  private:
    /// Neighbouring layers on one device: one graph.
    struct Segment {
        const Device* device;
        int first_layer;
        int end_layer;
        ggml_gallocr_ptr allocator;
        std::unique_ptr<Graph> graph;
        ggml_tensor* output = nullptr;  // [n_embd]
    };

    /// What a layer's nodes read besides the row.
    struct LayerInput {
        int64_t kv_row = 0;             // where the new entry goes
        int n_kv = 0;                   // entries that ggml's attention was built for
        std::vector<ggml_fp16_t> mask;  // [cache_mask_heads][n_kv], for ggml's attention
    };

    void append(int position);
    void build(Segment& segment);

    const Model::Impl& model_;
    std::vector<LayerCache>& caches_;  // [n_layer]
    std::vector<LayerInput> inputs_;   // [n_layer]
    std::vector<Segment> segments_;
    std::vector<float> row_;  // [n_embd] input of a segment
    int32_t position_ = 0;
    bool stale_ = true;  // graphs must be built (again)
};

}  // namespace fastkv
