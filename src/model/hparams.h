// GGUF keys -> HyperParams.
#pragma once

#include "fastkv/model.h"
#include "model/gguf_file.h"

namespace fastkv {

/// Reads and checks the model's facts. Throws Error(failure) for an architecture other than llama and qwen2
/// (listing both), a missing or impossible value, mixture-of-experts models, and RoPE scalings that are not
/// supported.
HyperParams read_hparams(const GgufFile& file);

/// ggml's RoPE mode for the architecture: llama's GGUF rows are permuted for adjacent pairs, qwen2 rotates
/// halves.
int rope_mode(const HyperParams& hparams);

}  // namespace fastkv
