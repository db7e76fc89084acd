// Queries, keys and values of a layer: projected, rotated, and written where attention reads them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/cache.h"
#include "engine/graph.h"
#include "engine/layer_context.h"
#include "engine/linears.h"

namespace fastkv {

/// How the layer's queries and keys are rotated.
kernels::Rope rope_of(const LayerContext& layer);

/// What a row goes through before its queries, keys and values are projected.
Norm attention_norm(const LayerContext& layer);

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

}  // namespace fastkv
