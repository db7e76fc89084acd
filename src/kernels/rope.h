// Rotary position embedding (RoFormer, arXiv 2104.09864): queries and keys are turned by angles that grow with their
// position.
#pragma once

#include <cstdint>

#include "kernels/team.h"

namespace fastkv::kernels {

/// What turns a model's heads: pair i of position p by the angle freq_scale · p · rope_theta^(-2i / n_rot) / factor[i].
struct Rope {
    int n_rot = 0;  ///< values of a head that are turned, the first ones; even
    float rope_theta = 10000;
    float freq_scale = 1;
    const float* factors = nullptr;  ///< [n_rot / 2], or none: 1
    bool halves = false;             ///< a pair is (i, i + n_rot / 2) instead of (2i, 2i + 1)
};

/// Turns x [n_row][n_head][head_dim] in place, row r by `positions[r]`. Angles are rounded as ggml's are, so that the
/// same file turns by the same angles there.
void rotate(const Rope& rope, const int32_t* positions, float* x, int n_row, int n_head, int head_dim);

/// The same for the rows that this thread of the team takes.
void rotate(const Rope& rope, const int32_t* positions, float* x, int n_row, int n_head, int head_dim, Team& team);

}  // namespace fastkv::kernels
