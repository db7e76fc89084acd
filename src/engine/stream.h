// The residual stream: one row of n_embd floats per living token, on the device of the layer being computed.
#pragma once

#include <memory>
#include <span>

#include "engine/graph.h"
#include "model/model_impl.h"

namespace fastkv {

class ResidualStream {
  public:
    /// Of these tokens; nothing is computed before the first move_to(). `tokens` must outlive that.
    ResidualStream(const Weights& weights, std::span<const Token> tokens) : weights_(weights), tokens_(tokens) {}

    /// Brings the first `n_rows` rows to `device`: embeds the tokens, the first time.
    /// Throws Error(failure) when there is no room.
    void move_to(const Device& device, int n_rows);

    const Device* device() const { return device_; }

    /// Says that only the first `n_rows` rows are still wanted: the memory of the others goes back to the system.
    void shrink(int n_rows);

    /// [n_embd, rows there was room for]
    ggml_tensor* tensor() const { return tensor_; }

    /// [n_embd, count] from row `first` on.
    ggml_tensor* rows(ggml_context* ctx, int first, int count) const;

    /// Copies rows to the host: [count][n_embd].
    void read(int first, int count, float* rows) const;

  private:
    const Weights& weights_;
    std::span<const Token> tokens_;
    const Device* device_ = nullptr;
    std::unique_ptr<TensorStore> store_;
    ggml_tensor* tensor_ = nullptr;
};

}  // namespace fastkv
