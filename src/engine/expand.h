// A layer's quantised matrices, expanded once per prompt into the layout that the products read.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "engine/graph.h"
#include "kernels/gemm.h"
#include "kernels/quantized_linear.h"
#include "model/expanded_store.h"
#include "model/weights.h"

namespace fastkv {

/// One linear layer as a graph uses it.
struct Linear {
    ggml_tensor* weight = nullptr;                       // [n_in, n_out]
    ggml_tensor* bias = nullptr;                         // [n_out] or nullptr
    const kernels::PackedWeights* packed = nullptr;      // the expanded weight, or nullptr: multiply by `weight`
    std::optional<kernels::QuantizedMatrix> row_matrix;  // `weight` for fastkv's products with a few rows
    bool reads_hidden = false;                           // the MLP's second half
};

/// The layer, not expanded, as `device` computes it.
Linear make_linear(const Device& device, ggml_tensor* weight, ggml_tensor* bias = nullptr);

/// The linear layers of one transformer layer.
struct LayerLinears {
    Linear q, k, v, o, gate, up, down;
};

/// The layer's linears, none expanded.
LayerLinears layer_linears(const LayerWeights& weights);

/// Memory for the expanded matrices of one layer, reused from layer to layer (they have the same shapes), or those that
/// stay with the model.
class ExpandedWeights {
  public:
    /// `kept`: the model's, or nullptr.
    ExpandedWeights(kernels::GemmType type, ggml_gallocr_t allocator, ExpandedStore* kept)
        : type_(type), allocator_(allocator), kept_(kept) {}

    /// Expands the given linears on `device`'s threads, unless they are there already, and points their `packed` at the
    /// result, which is valid until the next call.
    void expand(const Device& device, std::span<Linear* const> linears);

    uint64_t bytes() const;

  private:
    void expand_kept(const Device& device, std::span<Linear* const> linears);
    void expand_reused(const Device& device, std::span<Linear* const> linears);
    void fill(const Device& device, std::span<const std::pair<const Linear*, kernels::PackedWeights*>> matrices);
    kernels::PackedWeights& memory_for(size_t index, const Linear& linear);

    kernels::GemmType type_;
    ggml_gallocr_t allocator_;
    ExpandedStore* kept_;
    std::vector<std::optional<kernels::PackedWeights>> packed_;
};

}  // namespace fastkv
