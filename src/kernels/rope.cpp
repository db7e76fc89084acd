// Written once with Highway, compiled for every instruction set, chosen when the program runs.
#include "kernels/rope.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rope.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <cstddef>

#include <hwy/contrib/math/math-inl.h>

#include "kernels/aligned_buffer.h"

HWY_BEFORE_NAMESPACE();
namespace fastkv::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;

/// A position's angles, less whole turns, which the vector functions below are not made for: [n_rot / 2].
/// `step` is rope_theta^(-2 / n_rot).
void find_angles(const Rope& rope, float step, int32_t position, double* angles) {
    constexpr double full_turn = 6.283185307179586;
    auto unscaled = static_cast<float>(position);
    for (int i = 0; i < rope.n_rot / 2; ++i, unscaled *= step) {
        const float angle = rope.freq_scale * (rope.factors != nullptr ? unscaled / rope.factors[i] : unscaled);
        const double turns = static_cast<double>(angle) * (1 / full_turn);
        angles[i] = (turns - std::trunc(turns)) * full_turn;
    }
}

/// Their cosines and sines [n] each, in float64 until the last step: as exact as a float32 can be.
void find_cosines(const double* angles, size_t n, float* cosines, float* sines) {
    const hn::ScalableTag<double> d;
    const hn::Rebind<float, decltype(d)> d32;
    const size_t lanes = hn::Lanes(d);
    size_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        const auto angle = hn::LoadU(d, angles + i);
        hn::StoreU(hn::DemoteTo(d32, hn::Cos(d, angle)), d32, cosines + i);
        hn::StoreU(hn::DemoteTo(d32, hn::Sin(d, angle)), d32, sines + i);
    }
    for (; i < n; ++i) {
        cosines[i] = static_cast<float>(std::cos(angles[i]));
        sines[i] = static_cast<float>(std::sin(angles[i]));
    }
}

/// The pairs (a, b) of a head become (a·cos - b·sin, a·sin + b·cos).
void turn_head(const Rope& rope, const float* cosines, const float* sines, float* head) {
    const DF d;
    const size_t lanes = hn::Lanes(d);
    const auto n_pair = static_cast<size_t>(rope.n_rot / 2);
    size_t i = 0;
    for (; i + lanes <= n_pair; i += lanes) {
        const auto cosine = hn::LoadU(d, cosines + i), sine = hn::LoadU(d, sines + i);
        auto a = hn::Zero(d), b = hn::Zero(d);
        if (rope.halves) {
            a = hn::LoadU(d, head + i);
            b = hn::LoadU(d, head + n_pair + i);
        } else {
            hn::LoadInterleaved2(d, head + 2 * i, a, b);
        }
        const auto turned_a = hn::NegMulAdd(b, sine, hn::Mul(a, cosine));
        const auto turned_b = hn::MulAdd(a, sine, hn::Mul(b, cosine));
        if (rope.halves) {
            hn::StoreU(turned_a, d, head + i);
            hn::StoreU(turned_b, d, head + n_pair + i);
        } else {
            hn::StoreInterleaved2(turned_a, turned_b, d, head + 2 * i);
        }
    }
    for (; i < n_pair; ++i) {
        float& a = head[rope.halves ? i : 2 * i];
        float& b = head[rope.halves ? n_pair + i : 2 * i + 1];
        const float turned_a = a * cosines[i] - b * sines[i];
        b = a * sines[i] + b * cosines[i];
        a = turned_a;
    }
}

void rotate_rows(const Rope& rope, const int32_t* positions, float* x, int n_row, int n_head, int head_dim) {
    static thread_local AlignedBuffer memory;  // [n_pair] of float64, then [2][n_pair] of float32
    const auto n_pair = static_cast<size_t>(rope.n_rot / 2);
    auto* angles = memory.reserve_as<double>(2 * n_pair);
    auto* cosines = reinterpret_cast<float*>(angles + n_pair);
    float* sines = cosines + n_pair;
    const float step = std::pow(rope.rope_theta, -2.0F / static_cast<float>(rope.n_rot));
    for (int row = 0; row < n_row; ++row) {
        find_angles(rope, step, positions[row], angles);
        find_cosines(angles, n_pair, cosines, sines);
        for (int head = 0; head < n_head; ++head, x += head_dim) turn_head(rope, cosines, sines, x);
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace fastkv::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fastkv::kernels {

HWY_EXPORT(rotate_rows);

void rotate(const Rope& rope, const int32_t* positions, float* x, int n_row, int n_head, int head_dim) {
    HWY_DYNAMIC_DISPATCH(rotate_rows)(rope, positions, x, n_row, n_head, head_dim);
}

void rotate(const Rope& rope, const int32_t* positions, float* x, int n_row, int n_head, int head_dim, Team& team) {
    constexpr int piece_rows = 32;
    const size_t row_values = static_cast<size_t>(n_head) * static_cast<size_t>(head_dim);
    for (int first = team.take() * piece_rows; first < n_row; first = team.take() * piece_rows) {
        rotate(rope, positions + first, x + static_cast<size_t>(first) * row_values,
               std::min(piece_rows, n_row - first), n_head, head_dim);
    }
}

}  // namespace fastkv::kernels
#endif
