// The vector loops between the products: conversions, the softmax of a block of scores, rescaling.
#pragma once

#include <cstddef>

#include "kernels/gemm.h"
#include "kernels/kv_view.h"

namespace fastkv::kernels {

constexpr float log2_e = 1.4426950408889634F;

/// target[i] = source[i]·factor for i < n in `type` (bf16: round to nearest even), 0 for n <= i < n_padded.
void convert_row(const float* source, int n, float factor, GemmType type, void* target, int n_padded);

/// target[i] = source[i] / sqrt(mean(source²) + eps) · weight[i] for i < n in `type`, 0 for n <= i < n_padded.
void normalize_row(const float* source, int n, const float* weight, float eps, GemmType type, void* target,
                   int n_padded);

/// target[i] = silu(gate[i])·up[i] for i < n in `type`, 0 for n <= i < n_padded; silu(x) = x / (1 + e^-x).
void gate_row(const float* gate, const float* up, int n, GemmType type, void* target, int n_padded);

/// The same as convert_row() from a stored row of K or V, unscaled; of blocks, n is a multiple of 32.
void convert_kv_row(const void* source, KvType source_type, int n, GemmType type, void* target, int n_padded);

/// The other way round: target[i] = source[i] as K and V are stored that are not quantised, float32 or float16 (rounded
/// to nearest even).
void store_kv_row(const float* source, int n, KvType type, void* target);

/// What an online softmax knows of its rows: their largest score so far and the sum of their probabilities, both
/// brought up to date by every step, and what outputs so far have to be multiplied by after it (1 for most rows).
struct OnlineSoftmax {
    float* max = nullptr;    ///< [rows], -inf before the first step
    float* sum = nullptr;    ///< [rows], 0 before the first step
    float* decay = nullptr;  ///< [rows]

    OnlineSoftmax from(size_t row) const { return {max + row, sum + row, decay + row}; }
};

/// One step of it, in powers of two and in place: scores [rows][cols] become probabilities [rows][cols] of `type`
/// relative to the running maximum (bf16 ones fill the first half of the memory: the block stays in the cache). cols
/// is a multiple of 64. Scores of -inf get a probability of 0, in bf16 of at most 2^-126; a row that has seen nothing
/// else keeps max = -inf.
void softmax_step(float* scores, int rows, int cols, GemmType type, const OnlineSoftmax& online);

/// x [rows][cols]: row r is multiplied by factor[r]. cols is a multiple of 64.
void scale_rows(float* x, int rows, int cols, const float* factor);

}  // namespace fastkv::kernels
