// Scores of a few query rows against every key, in float32: keys are turned so that a vector holds the same
// component of neighbouring keys, and sums over components need no reduction across lanes.
#include "kernels/window_scores.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/window_scores.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/aligned_buffer.h"
#include "kernels/exp2-inl.h"
#include "kernels/vector_ops.h"

#ifndef FASTKV_KERNELS_WINDOW_SCORES_ONCE
#define FASTKV_KERNELS_WINDOW_SCORES_ONCE
namespace fastkv::kernels::window {

/// Keys that are turned at a time.
constexpr int block_keys = 64;
/// Query rows that share a load of keys.
constexpr int row_tile = 4;
/// Scores of so many heads are held at a time that they fit here (always at least one head's).
constexpr size_t max_score_bytes = size_t{32} << 20;

struct Scratch {
    AlignedBuffer queries;  ///< [rows][head_dim], rows a multiple of row_tile, scaled to powers of two
    AlignedBuffer row;      ///< [head_dim] one key in float32
    AlignedBuffer turned;   ///< [head_dim][block_keys]
    AlignedBuffer scores;   ///< [rows][n_rows padded to block_keys]
};

}  // namespace fastkv::kernels::window
#endif

HWY_BEFORE_NAMESPACE();
namespace fastkv::kernels {
namespace HWY_NAMESPACE {

using DF = hn::ScalableTag<float>;
using VF = hn::Vec<DF>;

/// turned[i][j] = component i of key first + j; 0 beyond n keys.
void turn_keys(const WindowQueries& queries, int head_kv, int first, int n, float* row, float* turned) {
    const auto* keys =
        static_cast<const std::byte*>(queries.k.data) + static_cast<size_t>(head_kv) * queries.k.head_stride;
    for (int j = 0; j < n; ++j) {
        convert_kv_row(keys + static_cast<size_t>(first + j) * queries.k.row_stride, queries.k.type, queries.head_dim,
                       GemmType::f32, row, queries.head_dim);
        for (int i = 0; i < queries.head_dim; ++i) {
            turned[i * window::block_keys + j] = row[i];
        }
    }
    for (int i = 0; n < window::block_keys && i < queries.head_dim; ++i) {
        std::fill(turned + i * window::block_keys + n, turned + (i + 1) * window::block_keys, 0.0F);
    }
}

/// Scores of row_tile query rows against one block of turned keys.
HWY_INLINE void score_tile(const float* q, int head_dim, const float* turned, float* scores, size_t stride) {
    const DF d;
    const int lanes = static_cast<int>(hn::Lanes(d));
    constexpr int V = 4;
    for (int first = 0; first < window::block_keys; first += V * lanes) {
        VF sum[window::row_tile][V];
        for (int r = 0; r < window::row_tile; ++r) {
            for (int c = 0; c < V; ++c) {
                sum[r][c] = hn::Zero(d);
            }
        }
        for (int i = 0; i < head_dim; ++i) {
            VF key[V];
            for (int c = 0; c < V; ++c) {
                key[c] = hn::Load(d, turned + i * window::block_keys + first + c * lanes);
            }
            for (int r = 0; r < window::row_tile; ++r) {
                const VF component = hn::Set(d, q[r * head_dim + i]);
                for (int c = 0; c < V; ++c) {
                    sum[r][c] = hn::MulAdd(component, key[c], sum[r][c]);
                }
            }
        }
        for (int r = 0; r < window::row_tile; ++r) {
            for (int c = 0; c < V; ++c) {
                hn::Store(sum[r][c], d, scores + static_cast<size_t>(r) * stride + first + c * lanes);
            }
        }
    }
}

/// sums[j] += softmax(row)[j] for j < n_sum, over the row's first n_visible columns. The row is overwritten.
void add_softmax(float* row, int n_visible, int n_padded, int n_sum, float* sums) {
    const DF d;
    const int lanes = static_cast<int>(hn::Lanes(d));
    std::fill(row + n_visible, row + n_padded, -std::numeric_limits<float>::infinity());
    VF max = hn::Load(d, row);
    for (int j = lanes; j < n_padded; j += lanes) {
        max = hn::Max(max, hn::Load(d, row + j));
    }
    max = hn::MaxOfLanes(d, max);
    VF total[2] = {hn::Zero(d), hn::Zero(d)};
    for (int j = 0; j < n_padded; j += 2 * lanes) {
        for (int c = 0; c < 2; ++c) {
            const VF p = exp2<Exp2::exact>(d, hn::Sub(hn::Load(d, row + j + c * lanes), max));
            total[c] = hn::Add(total[c], p);
            hn::Store(p, d, row + j + c * lanes);
        }
    }
    const float factor = 1.0F / hn::GetLane(hn::SumOfLanes(d, hn::Add(total[0], total[1])));
    const VF vector_factor = hn::Set(d, factor);
    int j = 0;
    for (; j + lanes <= n_sum; j += lanes) {
        hn::StoreU(hn::MulAdd(hn::Load(d, row + j), vector_factor, hn::LoadU(d, sums + j)), d, sums + j);
    }
    for (; j < n_sum; ++j) {
        sums[j] += row[j] * factor;
    }
}

/// Query heads [first_head, first_head + n_head), all of key/value head `head_kv`.
void sum_heads(const WindowQueries& queries, int head_kv, int first_head, int n_head, float* sums,
               window::Scratch& scratch) {
    const int n_padded = round_up(queries.n_rows, window::block_keys);
    const auto stride = static_cast<size_t>(n_padded);
    const int n_row = n_head * queries.window;
    const int n_row_padded = round_up(n_row, window::row_tile);
    const int dim = queries.head_dim;
    auto* q = scratch.queries.reserve_as<float>(static_cast<size_t>(n_row_padded * dim));
    auto* key = scratch.row.reserve_as<float>(static_cast<size_t>(dim));
    auto* turned = scratch.turned.reserve_as<float>(static_cast<size_t>(dim * window::block_keys));
    auto* scores = scratch.scores.reserve_as<float>(static_cast<size_t>(n_row_padded) * stride);
    for (int r = 0; r < n_row; ++r) {
        const int head = first_head + r / queries.window;
        const size_t source = static_cast<size_t>(r % queries.window * queries.n_head + head);
        convert_row(queries.q + source * static_cast<size_t>(dim), dim, queries.scale * log2_e, GemmType::f32,
                    q + r * dim, dim);
    }
    std::fill(q + n_row * dim, q + n_row_padded * dim, 0.0F);
    for (int first = 0; first < queries.n_rows; first += window::block_keys) {
        turn_keys(queries, head_kv, first, std::min(window::block_keys, queries.n_rows - first), key, turned);
        for (int r = 0; r < n_row_padded; r += window::row_tile) {
            score_tile(q + r * dim, dim, turned, scores + static_cast<size_t>(r) * stride + first, stride);
        }
    }
    const int n_sum = queries.n_rows - queries.window;
    for (int r = 0; r < n_row; ++r) {
        float* target = sums + static_cast<size_t>(first_head + r / queries.window) * static_cast<size_t>(n_sum);
        const int n_visible = n_sum + r % queries.window + 1;
        add_softmax(scores + static_cast<size_t>(r) * stride, n_visible, n_padded, n_sum, target);
    }
}

void sum_share(const WindowQueries& queries, float* sums, int begin, int end) {
    static thread_local window::Scratch scratch;
    const auto n_sum = static_cast<size_t>(queries.n_rows - queries.window);
    std::fill(sums + static_cast<size_t>(begin) * n_sum, sums + static_cast<size_t>(end) * n_sum, 0.0F);
    const size_t head_bytes = static_cast<size_t>(queries.window) * static_cast<size_t>(queries.n_rows) * sizeof(float);
    const int at_once = static_cast<int>(std::clamp<size_t>(window::max_score_bytes / head_bytes, 1, 64));
    const int heads_per_kv = queries.n_head / queries.n_head_kv;
    for (int head = begin; head < end;) {
        const int head_kv = head / heads_per_kv;
        const int n = std::min({at_once, end - head, (head_kv + 1) * heads_per_kv - head});
        sum_heads(queries, head_kv, head, n, sums, scratch);
        head += n;
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace fastkv::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fastkv::kernels {

HWY_EXPORT(sum_share);

void window_scores(const WindowQueries& queries, float* sums, int ith, int nth) {
    HWY_DYNAMIC_DISPATCH(sum_share)(queries, sums, queries.n_head * ith / nth, queries.n_head * (ith + 1) / nth);
}

}  // namespace fastkv::kernels
#endif
