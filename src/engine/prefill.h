// Reads a prompt layer by layer: the whole prompt through layer 0, then layer 1, and so on (layer-major).
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/attention.h"
#include "engine/cache.h"
#include "engine/expand.h"
#include "fastkv/session.h"
#include "methods/carry_out.h"
#include "methods/schedule.h"
#include "model/model_impl.h"

namespace fastkv {

/// What a prefill leaves behind.
struct PrefillResult {
    std::vector<LayerCache> caches;   // [n_layer]
    std::vector<LayerReport> layers;  // [n_layer]
    std::vector<float> last_rows;     // [1, or n_prompt with all rows][n_embd] residual stream after the last layer
};

/// One prefill. Engines usually push the prompt through all layers chunk by chunk and hold every layer's full cache
/// until it is read; going layer by layer, only one layer's full K and V ever exist, quantised weights are expanded
/// once per layer, and rows that a method drops are not computed above.
class Prefill {
  public:
    Prefill(const Model::Impl& model, const MethodEntry& method, const MethodParams& params,
            const SessionParams& session, std::span<const Token> prompt, const ProgressCallback& progress);

    PrefillResult run();

  private:
    void enter_layer(int layer);
    void compute_layer(int layer);
    void expand_weights(const LayerPlan& plan, int n_block_rows);
    KvTensors key_value_target(const LayerPlan& plan);
    void project_keys_values(const KvTensors& kv);
    Choice choose_rows(const LayerPlan& plan, const KvTensors& kv);
    void fill_cache(const Choice& choice, const KvTensors& kv);
    void compute_block(std::span<const int> rows);
    void report_layer(const Choice& choice);
    void advance(int64_t rows);

    ggml_tensor* stream_rows(ggml_context* ctx, int first, int count) const;
    int cached_rows(const LayerPlan& plan) const { return plan.keep ? plan.keep->count : n_rows(); }
    int n_rows() const { return int(positions_.size()); }
    bool is_last() const { return layer_ + 1 == model_.hparams.n_layer; }

    const Model::Impl& model_;
    const MethodEntry& method_;
    const MethodParams& params_;
    const SessionParams& session_;
    std::span<const Token> prompt_;
    const ProgressCallback& progress_;

    // The residual stream, on the device of the layer being computed.
    int layer_ = 0;
    const Device* device_ = nullptr;
    KernelChoice choice_;
    ggml_gallocr_ptr allocator_;  // intermediate results of this device's graphs
    std::unique_ptr<TensorStore> stream_store_;
    ggml_tensor* stream_ = nullptr;   // [n_embd, n_prompt], of which the first n_rows() rows live
    std::vector<int32_t> positions_;  // [n_rows] original positions of the living rows, ascending

    // One layer's full K and V, where the cache does not keep them all.
    std::unique_ptr<TensorStore> scratch_store_;
    KvTensors scratch_;  // [head_dim, n_prompt, n_head_kv]

    std::optional<LayerContext> context_;
    std::unique_ptr<ExpandedWeights> expanded_;
    std::optional<PrefillAttention> attention_;
    PrefillProgress progress_state_;
    int64_t start_us_ = 0;
    PrefillResult result_;
};

}  // namespace fastkv
