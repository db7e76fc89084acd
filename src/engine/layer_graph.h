// The one description of a transformer layer, for prefill and decoding, for every device.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "engine/cache.h"
#include "engine/expand.h"
#include "engine/graph.h"
#include "model/weights.h"

namespace fastkv {

/// What a layer's graphs are built from.
struct LayerContext {
    const HyperParams& hparams;
    const LayerWeights& weights;
    LayerLinears linears;
};

/// softmax(q·Kᵀ / sqrt(head_dim))·V, however it is computed: [head_dim, n_head, rows] -> [head_dim * n_head, rows].
using Attend = std::function<ggml_tensor*(Graph& graph, ggml_tensor* q)>;

/// Rotated queries of the rows x [n_embd, rows] at `positions` [rows]: -> [head_dim, n_head, rows].
ggml_tensor* build_queries(Graph& graph, const LayerContext& layer, ggml_tensor* x, ggml_tensor* positions);

/// The same queries before their rotation.
ggml_tensor* build_unrotated_queries(Graph& graph, const LayerContext& layer, ggml_tensor* x);

/// Keys (rotated) and values of the rows x [n_embd, rows] at `positions` [rows], written to the flat rows `kv_rows`
/// (int64 [cached heads · rows], head by head within a row) of `kv`. Where the cache has more heads than the layer, the
/// query heads of a group each get their key/value head's. Keys are stored without `kv`'s offset. Returns the written
/// tensors: the node of the keys writes the values too where there is none for them.
KvTensors build_keys_values(Graph& graph, const LayerContext& layer, ggml_tensor* x, ggml_tensor* positions,
                            ggml_tensor* kv_rows, const KvTensors& kv);

/// Where the key and the value of one row go: flat rows `kv_rows` of `kv`, as above.
struct RowTarget {
    KvTensors kv;
    std::span<const int64_t> kv_rows;  ///< [cached heads], read before every run of the graph
};

/// What decoding's attention asks, and what it reads.
struct RowHeads {
    ggml_tensor* q = nullptr;        ///< [head_dim, n_head, rows], rotated
    std::vector<KvTensors> written;  ///< [rows] with the new keys and values: nodes, or written before the queries
};

/// Queries of a few rows x [n_embd, rows] at `positions` [rows], and their keys and values written to the target of
/// each row: by one node where the weights have a format for that.
RowHeads build_row_heads(Graph& graph, const LayerContext& layer, ggml_tensor* x, ggml_tensor* positions,
                         std::span<const RowTarget> targets);

/// The first keys of every cached head, `keys` float32 [head_dim, heads, n], turned on by `shift` [n] positions and
/// written to the flat rows `kv_rows` (int64 [heads · n]) of `kv`'s keys. Returns the written tensor.
ggml_tensor* build_turned_keys(Graph& graph, const LayerContext& layer, ggml_tensor* keys, ggml_tensor* shift,
                               ggml_tensor* kv_rows, const KvTensors& kv);

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
