// The three kinds of attention of the engine, each by fastkv's kernel or by ggml's operators.
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
#include "methods/select.h"

namespace fastkv {

/// Causal attention of a prompt's rows over one layer's full keys and values.
class PrefillAttention {
  public:
    PrefillAttention(const HyperParams& hparams, const KernelChoice& choice, int max_rows);

    /// Attends to the first `positions.size()` rows of `kv` from now on; `positions` are theirs and must outlive their
    /// use.
    void set_keys(const Device& device, ggml_gallocr_t allocator, const KvTensors& kv,
                  std::span<const int32_t> positions);

    /// The attention of query rows whose own keys are at `key_rows`, ascending; `key_rows` must outlive the graph.
    Attend of(std::span<const int32_t> key_rows);

    uint64_t bytes() const { return packed_ ? packed_->bytes() : 0; }

  private:
    ggml_tensor* by_kernel(Graph& graph, ggml_tensor* q, std::span<const int32_t> key_rows) const;
    ggml_tensor* by_ggml(Graph& graph, ggml_tensor* q, std::span<const int32_t> key_rows);

    const HyperParams& hparams_;
    std::optional<kernels::PackedKv> packed_;
    KvTensors kv_;
    std::span<const int32_t> positions_;  // [rows of kv]
    std::vector<ggml_fp16_t> mask_;       // [rows of a chunk][keys], for ggml
};

/// Attention of one new row over a layer's cache, the row's own entry included. The node reads the cache's length when
/// it runs; by ggml's operators it covers `n_kv` entries under `mask` (see cache_mask()).
Attend cache_attention(const HyperParams& hparams, const KernelChoice& choice, const LayerCache& cache,
                       const KvTensors& written, int n_kv, ggml_tensor* mask);

/// Entries that ggml's attention covers for a cache of this length: it is built for multiples of 256.
int padded_entries(const LayerCache& cache);

/// Heads in a mask of the cache: with a sliding window every query head has its own.
int cache_mask_heads(const HyperParams& hparams);

/// The mask of cache_attention() for a query at `position`: [cache_mask_heads][n_kv].
void cache_mask(const HyperParams& hparams, const LayerCache& cache, int position, int n_kv,
                std::vector<ggml_fp16_t>& mask);

/// How much the last `window` rows look at each row before them (methods/plan.h, ScorePlan), before pooling:
/// [n_head][n_rows - window]. `x_window` [n_embd, window] are the layer's inputs of those rows, `positions` theirs.
Scores window_scores(const Device& device, ggml_gallocr_t allocator, const LayerContext& layer,
                     const KernelChoice& choice, ggml_tensor* x_window, std::span<const int32_t> positions,
                     const KvTensors& kv, int n_rows);

}  // namespace fastkv
