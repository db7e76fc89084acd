// The model's tensors, where their layers are computed.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "fastkv/model.h"
#include "ggml.h"
#include "model/device.h"
#include "model/gguf_file.h"

namespace fastkv {

/// Tensors of one layer, shapes in ggml's order (fastest dimension first). On the CPU the data lie in memory of our own
/// (as in the file; with Compute::f32 as float32) or in the mapped file; on a GPU in its memory. Norms and biases are
/// float32.
struct LayerWeights {
    Device* device = nullptr;
    ggml_tensor* attn_norm = nullptr;    // [n_embd]
    ggml_tensor* attn_q = nullptr;       // [n_embd, n_head * head_dim]
    ggml_tensor* attn_k = nullptr;       // [n_embd, n_head_kv * head_dim]
    ggml_tensor* attn_v = nullptr;       // [n_embd, n_head_kv * head_dim]
    ggml_tensor* attn_q_bias = nullptr;  // [n_head * head_dim]     or nullptr
    ggml_tensor* attn_k_bias = nullptr;  // [n_head_kv * head_dim]  or nullptr
    ggml_tensor* attn_v_bias = nullptr;  // [n_head_kv * head_dim]  or nullptr
    ggml_tensor* attn_output = nullptr;  // [n_head * head_dim, n_embd]
    ggml_tensor* ffn_norm = nullptr;     // [n_embd]
    ggml_tensor* ffn_gate = nullptr;     // [n_embd, n_ff]
    ggml_tensor* ffn_up = nullptr;       // [n_embd, n_ff]
    ggml_tensor* ffn_down = nullptr;     // [n_ff, n_embd]
    ggml_tensor* rope_freqs = nullptr;   // [n_rot / 2] frequency factors, or nullptr
};

/// `n` values of `type`, in whole blocks, as float32.
void dequantize(ggml_type type, const void* from, float* to, int64_t n);

/// All tensors. The embedding is read on the CPU; the output matrix lies on the last layer's device.
class Weights {
  public:
    /// Checks that every tensor is there with its shape and a type that ggml computes with, and places it.
    /// `gpu` may be null. Throws Error(failure) naming the file and the tensor, or the memory that is
    /// missing.
    Weights(const GgufFile& file, const HyperParams& hparams, const ModelParams& params, Device& cpu, Device* gpu);
    ~Weights();
    Weights(Weights&&) noexcept;

    ggml_tensor* token_embd = nullptr;   // [n_embd, n_vocab], CPU
    ggml_tensor* output_norm = nullptr;  // [n_embd]
    ggml_tensor* output = nullptr;       // [n_embd, n_vocab]; tied to token_embd where the file has none
    Device* output_device = nullptr;
    std::vector<LayerWeights> layers;  // [n_layer]

  private:
    struct Storage;
    std::unique_ptr<Storage> storage_;
};

}  // namespace fastkv
