// Reads a prompt layer by layer: the whole prompt through layer 0, then layer 1, and so on (layer-major).
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/attention.h"
#include "engine/cache.h"
#include "engine/expand.h"
#include "engine/scores.h"
#include "engine/stream.h"
#include "fastkv/session.h"
#include "methods/carry_out.h"
#include "methods/schedule.h"
#include "model/model_impl.h"

namespace fastkv {

/// What a prefill leaves behind.
struct PrefillResult {
    std::vector<LayerCache> caches;                    // [n_layer]
    std::vector<std::unique_ptr<Eviction>> evictions;  // [n_layer], nullptr where nothing is dropped while decoding
    std::vector<LayerReport> layers;                   // [n_layer]
    std::vector<float> last_rows;  // [1, or n_prompt with all rows][n_embd] residual stream after the last layer
    std::vector<int> restart;      // rows that are to be read again as a prompt of their own; then the rest is empty
};

/// Counts finished rows over all passes of a prompt and lets the caller see and stop.
class PrefillMeter {
  public:
    PrefillMeter(std::span<const PlannedLayer> layers, int n_layer, const ProgressCallback& callback);

    /// Throws Error(cancelled) when the caller wants no more.
    void advance(int layer, int64_t rows);

  private:
    const ProgressCallback& callback_;
    PrefillProgress state_;
    int64_t start_us_;
};

/// What all passes over a prompt have in common.
struct PrefillSetup {
    const Model::Impl& model;
    const MethodEntry& method;
    const MethodParams& params;    // resolved
    const SessionParams& session;  // n_predict within the context
    KvTypes cache_types;
    PrefillMeter& meter;
};

/// One pass over one prompt. Engines usually push the prompt through all layers chunk by chunk and hold every layer's
/// full cache until it is read; going layer by layer, only one layer's full K and V ever exist, quantised weights are
/// expanded once per layer, and rows that a method drops are not computed above.
class Prefill {
  public:
    /// `spans` [n_prompt]: the first row of every row's span (methods/spans.h), for plans that want them.
    Prefill(const PrefillSetup& setup, std::span<const Token> prompt, std::span<const int> spans, int pass);

    PrefillResult run();

  private:
    void enter_layer(int layer);
    void compute_layer();
    void expand_weights(const LayerPlan& plan, int n_block_rows);
    KvTensors key_value_target(const LayerPlan& plan);
    void project_keys_values(const KvTensors& kv);
    Choice choose_rows(const LayerPlan& plan, const KvTensors& kv);
    void fill_cache(const Choice& choice, const KvTensors& kv);
    void start_eviction(const KvTensors& kv);
    std::vector<std::vector<float>> entry_scores(std::span<const std::vector<int32_t>> positions) const;
    void keep_rows(std::span<const int32_t> rows);
    void compute_block(std::span<const int32_t> key_rows);
    void report_layer(const Choice& choice);

    ScoredLayer scored_layer(const KvTensors& kv) const;
    int n_rows() const { return int(positions_.size()); }
    bool is_last() const { return layer_ + 1 == setup_.model.hparams.n_layer; }

    const PrefillSetup& setup_;
    const HyperParams& hparams_;
    std::span<const Token> prompt_;
    std::span<const int> spans_;
    int pass_;

    int layer_ = 0;
    ResidualStream stream_;           // of which the first n_rows() rows live
    const Device* device_ = nullptr;  // of the layer
    KernelChoice choice_;
    ggml_gallocr_ptr allocator_;      // intermediate results of this device's graphs
    std::vector<int32_t> positions_;  // [n_rows] original positions of the living rows, ascending

    // One layer's full K and V, where the cache does not keep them all.
    std::unique_ptr<TensorStore> scratch_store_;
    KvTensors scratch_;  // [head_dim, n_prompt, n_head_kv]

    std::optional<LayerContext> context_;
    std::unique_ptr<ExpandedWeights> expanded_;
    std::optional<PrefillAttention> attention_;
    Scores scores_;                           // of the layer, before pooling
    std::vector<std::vector<float>> totals_;  // scores of the layers so far, summed over heads (Choice::total)
    PrefillResult result_;
};

}  // namespace fastkv
