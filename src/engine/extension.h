// A later turn of a conversation: several tokens at once through all layers, over the caches of what came before.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/attention.h"
#include "engine/cache.h"
#include "engine/expand.h"
#include "engine/stream.h"
#include "fastkv/session.h"
#include "methods/carry_out.h"
#include "methods/schedule.h"
#include "model/model_impl.h"

namespace fastkv {

/// Appends a turn's tokens to the caches, layer by layer: its rows attend to all that is cached and to themselves.
class Extension {
  public:
    /// `recompress` [n_layer]: by what each layer's cache is cut after the turn; empty: nothing is cut. Its last window
    /// of tokens scores, its counts are those of a prompt as long as all turns together. `n_predict` entries are set
    /// aside for the answer.
    Extension(const Model::Impl& model, std::vector<LayerCache>& caches, std::span<const LayerPlan> recompress,
              int n_predict, const ProgressCallback& progress);

    /// Reads `turn` from `first_position` on; returns the residual stream of its last row [n_embd].
    std::vector<float> run(std::span<const Token> turn, int first_position);

  private:
    void extend_layer(int layer, ResidualStream& stream);
    void expand_weights(LayerContext& context, const Device& device);
    void append_keys_values(const LayerContext& context, const ResidualStream& stream, LayerCache& cache) const;
    Choice choose_entries(const LayerContext& context, const KernelChoice& choice, const ResidualStream& stream,
                          const LayerCache& cache, LayerPlan plan) const;
    LayerCache shortened(const LayerCache& cache, const Choice& choice) const;
    void advance(int layer, int64_t rows);

    const Model::Impl& model_;
    std::vector<LayerCache>& caches_;  // [n_layer]
    std::span<const LayerPlan> recompress_;
    int n_predict_;
    const ProgressCallback& progress_;
    PrefillProgress progress_state_;
    int64_t start_us_;

    std::vector<int32_t> positions_;  // [rows of the turn]
    ggml_gallocr_ptr allocator_;      // of the device being worked on
    std::unique_ptr<ExpandedWeights> expanded_;
};

}  // namespace fastkv
