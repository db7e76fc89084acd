// The two kinds of attention of the engine, each by fastkv's kernel or by ggml's operators.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/cache.h"
#include "engine/graph.h"
#include "engine/kernel_choice.h"
#include "engine/layer_graph.h"
#include "kernels/prefill_attention.h"

namespace fastkv {

/// Causal attention of many rows over one layer's keys and values: a prompt's over all of its own, a later turn's over
/// the cache with its own behind (TurnAttention).
class PrefillAttention {
  public:
    /// `n_head` query heads over `n_head_kv` heads of keys and values, of at most `max_rows` rows.
    PrefillAttention(const HyperParams& hparams, const KernelChoice& choice, int n_head, int n_head_kv, int max_rows);

    /// Attends to the first `positions.size()` rows of `kv` from now on; `positions` are theirs and must outlive their
    /// use. `over`: nobody else reads these rows again, and they may be written over.
    void set_keys(const Device& device, ggml_gallocr_t allocator, const KvTensors& kv,
                  std::span<const int32_t> positions, bool over);

    /// The attention of query rows whose own keys are at `key_rows`, ascending; `key_rows` must outlive the graph.
    Attend of(std::span<const int32_t> key_rows);

    uint64_t bytes() const { return packed_ ? packed_->bytes() : 0; }

  private:
    kernels::PrefillQueries queries(float* heads, std::span<const int32_t> key_rows) const;
    ggml_tensor* by_kernel(Graph& graph, ggml_tensor* q, std::span<const int32_t> key_rows) const;
    ggml_tensor* by_ggml(Graph& graph, ggml_tensor* q, std::span<const int32_t> key_rows);

    const HyperParams& hparams_;
    const int n_head_;
    std::optional<kernels::PackedKv> packed_;
    KvTensors kv_;
    std::span<const int32_t> positions_;  // [rows of kv]
    std::vector<ggml_fp16_t> mask_;       // [rows of a chunk][keys], for ggml
};

/// Heads of a cache that ggml's attention takes in one node: all of them, or one where they differ in what they hold or
/// hide.
struct CacheGroup {
    int first_head = 0;  // of the cached heads
    int n_head = 0;
    int n_kv = 0;                   // entries covered: a multiple of 256, or the capacity
    std::vector<ggml_fp16_t> mask;  // [n_kv]
};

/// Brings the groups up to date for a query at `position`; returns whether nodes built from them must be built again.
bool update_groups(const HyperParams& hparams, const LayerCache& cache, int position, std::vector<CacheGroup>& groups);

/// One new row over a layer's cache, the row's own entry included.
struct CacheQuestion {
    const HyperParams& hparams;
    const KernelChoice& choice;
    const LayerCache& cache;
    KvTensors written;                   // the cache's tensors, once the row's entry is in them
    const int32_t& position;             // of the row, read when the node runs
    std::span<const CacheGroup> groups;  // for ggml's attention
    ggml_tensor** weights = nullptr;     // receives a node with the attention probabilities, if wanted
};

/// Rows of the node that CacheQuestion::weights receives are this long: [row length, n_head].
int weight_row_length(const KernelChoice& choice, const LayerCache& cache);

/// Row i of the queries q [head_dim, n_head, rows] asks question i, over a cache of its own: -> [head_dim * n_head,
/// rows]. fastkv's kernel reads the caches' lengths when it runs; ggml's operators cover what `groups` say.
ggml_tensor* build_cache_attention(Graph& graph, const std::vector<CacheQuestion>& questions, ggml_tensor* q);

}  // namespace fastkv
