// The softmax of scores in float16 (AVX512-FP16), of which twice as many fit a vector as of float32.
#pragma once

#include <cstdint>

#include "kernels/vector_ops.h"

namespace fastkv::kernels::half {

/// Most scores of a row.
constexpr int max_score_cols = 512;

/// What scores are to be multiplied by (multiply_scores()).
struct ScoreScales {
    const float* row = nullptr;    ///< [rows]
    const float* panel = nullptr;  ///< [cols / 64]
};

/// softmax_step() of vector_ops.h for scores [rows][cols] of float16, which become probabilities in place: 4·2^x, so
/// that more of the small ones can be told from 0, with x what a score is below the largest, which is rounded up to
/// float16. Scores beyond ±65,504 are taken for as much.
void softmax_step(uint16_t* scores, int rows, int cols, const ScoreScales& scales, const OnlineSoftmax& online);

}  // namespace fastkv::kernels::half
