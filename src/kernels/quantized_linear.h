// One row times a matrix as the file stores it: what decoding does all day, as fast as memory hands over the weights.
#pragma once

#include <cstddef>
#include <span>

#include "kernels/gemm.h"

namespace fastkv::kernels {

/// Blocks of 32 weights as ggml lays them out.
enum class BlockType { q4_0, q4_1, q5_0, q8_0 };

/// A matrix W [n][k] of blocks, k a multiple of 64; rows follow each other without gaps.
struct QuantizedMatrix {
    BlockType type = BlockType::q8_0;
    const void* data = nullptr;
    int n = 0;
    int k = 0;
};

/// Whether this processor has the instructions that the functions below are written for (AVX-512 VNNI).
bool quantized_available();

/// One of the linear layers that read the same row: y[n] = base + W·x.
struct QuantizedOutput {
    QuantizedMatrix weights;
    const float* base = nullptr;  ///< [n] or none
    float* y = nullptr;           ///< [n]
};

/// Linear layers of one row x[k], normalised before: this thread's share of the rows of every matrix. x is rounded to
/// 8 bits in blocks of 32, as ggml does; sums are exact integers within a block.
void quantized_linear(std::span<const QuantizedOutput> outputs, const RmsNorm& norm, const float* x, int ith, int nth);

/// y[n_ff] = silu(gate·x̂) · (up·x̂) with x̂ = norm(x): this thread's share.
struct QuantizedGate {
    RmsNorm norm;
    QuantizedMatrix gate;
    QuantizedMatrix up;
};
void quantized_gate(const QuantizedGate& layer, const float* x, float* y, int ith, int nth);

}  // namespace fastkv::kernels
