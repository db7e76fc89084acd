// The one place where it is decided what a layer is computed with.
#pragma once

#include "engine/cache.h"
#include "fastkv/session.h"
#include "ggml.h"
#include "kernels/gemm.h"
#include "methods/registry.h"
#include "model/device.h"

namespace fastkv {

/// fastkv's kernels where the layer's device and the arithmetic allow them, ggml's operators elsewhere.
struct KernelChoice {
    bool packed_linear = false;                          ///< prefill's products on expanded, packed weights
    bool prefill_attention = false;                      ///< blockwise attention on packed K and V
    bool cache_kernels = false;                          ///< attention over the cache, window scores
    kernels::GemmType gemm = kernels::GemmType::bf16;    ///< of attention and the output matrix
    kernels::GemmType linear = kernels::GemmType::bf16;  ///< of the layers' linears
};

KernelChoice choose_kernels(const Device& device, Compute compute);

/// Weights are expanded for a pass over at least this many rows; below, multiplying by the quantised weights is
/// faster than expanding them first.
int min_rows_to_expand(const KernelChoice& choice);

/// Rows of one chunk of a prefill: enough to keep every thread's products large, few enough for the caches.
int prefill_chunk_rows(const Device& device);

/// The same for attention and MLP: more, where rows stay with their thread and nothing is kept between its steps.
int block_chunk_rows(const Device& device, const KernelChoice& choice);

/// The type of a layer's full keys and values during the prefill.
ggml_type compute_type(Compute compute);

/// The types of a method's cached keys and values. Throws Error(usage) where the model's heads do not fit one.
KvTypes cache_types(const SessionParams& session, const MethodEntry& method, const ModelParams& model,
                    const HyperParams& hparams);

}  // namespace fastkv
