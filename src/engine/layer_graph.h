// The one description of a transformer layer, for prefill and decoding, for every device.
#pragma once

#include <functional>

#include "engine/graph.h"
#include "engine/layer_context.h"

namespace fastkv {

/// softmax(q·Kᵀ / sqrt(head_dim))·V, however it is computed.
struct Attend {
    /// [head_dim, n_head, rows] -> [head_dim * n_head, rows]
    std::function<ggml_tensor*(Graph& graph, ggml_tensor* q)> nodes;
    /// The same by the calling thread alone, over the queries [n][n_head][head_dim] of `n` rows, the first of which is
    /// row `first` of the graph. Or none.
    std::function<void(int first, int n, float* heads)> rows;
};

/// What comes after the attention, [head_dim * n_head, rows]: x += W·attention; x += MLP. Packed layers write over x
/// [n_embd, rows].
ggml_tensor* build_layer_end(Graph& graph, const LayerContext& layer, ggml_tensor* x, ggml_tensor* attention);

/// The layer's output for the rows x [n_embd, rows]: their queries, the attention, and what comes after it.
ggml_tensor* build_block(Graph& graph, const LayerContext& layer, ggml_tensor* x, ggml_tensor* positions,
                         const Attend& attend);

/// The same, written back to x, rows of a tensor that lasts. Returns the node to compute.
ggml_tensor* build_block_in_place(Graph& graph, const LayerContext& layer, ggml_tensor* x, ggml_tensor* positions,
                                  const Attend& attend);

/// Logits of the rows x [n_embd, rows]: final norm and output matrix -> [n_vocab, rows].
ggml_tensor* build_head(Graph& graph, const HyperParams& hparams, ggml_tensor* x, ggml_tensor* output_norm,
                        const Linear& output);

}  // namespace fastkv
