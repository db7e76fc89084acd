// One token of each of several sequences through all layers, over their compressed caches.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/attention.h"
#include "engine/graph.h"
#include "engine/kernel_choice.h"
#include "engine/layer_graph.h"
#include "engine/sequence.h"
#include "model/model_impl.h"

namespace fastkv {

/// Decodes token after token for the same sequences: linear layers see the rows of all of them, so that weights are
/// read once; attention is each row's own. The graph is built once and run for every token: what changes (rows,
/// positions, where the new entries go) are inputs, and fastkv's attention reads a cache's length when it runs. It is
/// built again when other sequences come, or the layout of one changes.
class Decoder {
  public:
    explicit Decoder(const Model::Impl& model);

    /// The tokens [sequences], for which room has been appended, through all layers; `rows` [sequences][n_embd]
    /// receives the residual stream after the last.
    void run(std::span<Sequence* const> sequences, std::span<const Token> tokens, std::span<float> rows);

  private:
    /// The attention probabilities of a token in a layer, where somebody reads them.
    struct AttentionOutput {
        ggml_tensor* node = nullptr;  // [row length, n_head]
        int row_length = 0;
    };

    /// Neighbouring layers on one device: one graph.
    struct Segment {
        const Device* device;
        int first_layer;
        int end_layer;
        KernelChoice choice;
        ggml_gallocr_ptr allocator;
        std::unique_ptr<Graph> graph = nullptr;
        ggml_tensor* output = nullptr;  // [n_embd, sequences]
    };

    void build(Segment& segment, std::span<Sequence* const> sequences);
    ggml_tensor* build_layer(Segment& segment, int layer, std::span<Sequence* const> sequences, ggml_tensor* x,
                             ggml_tensor* positions);
    void show(const Segment& segment, int layer, std::span<Sequence* const> sequences) const;

    const Model::Impl& model_;
    std::vector<Segment> segments_;
    std::vector<uint64_t> layouts_;                        // [sequences] that the graphs are built for
    std::vector<std::vector<AttentionOutput>> attention_;  // [n_layer][sequences]
    std::vector<float> rows_;                              // [sequences][n_embd] input of a segment
    std::vector<int32_t> positions_;                       // [sequences]
};

}  // namespace fastkv
