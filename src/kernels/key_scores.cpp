// Scores of query rows against every key, in float32: keys are turned so that a vector holds the same component of
// neighbouring keys, and sums over components need no reduction across lanes. Query rows come in tiles that bound the
// memory: a block of scores becomes exponentials relative to the running maximum while it is in the first-level cache,
// and one factor for each row and block makes them probabilities where they are summed up.
#include "kernels/key_scores.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/key_scores.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/aligned_buffer.h"
#include "kernels/exp2-inl.h"
#include "kernels/load-inl.h"
#include "kernels/vector_ops.h"

#ifndef FASTKV_KERNELS_KEY_SCORES_ONCE
#define FASTKV_KERNELS_KEY_SCORES_ONCE
namespace fastkv::kernels::scores {

/// Keys that are turned together.
constexpr int block_keys = 64;
/// Query rows that share a load of keys, and keys that are turned at a time.
constexpr int row_step = 4;
/// Rows of a tile: so many share a pass over the keys, while their scores stay near the processor.
constexpr int max_tile_rows = 64;
/// Scores of a tile fit here (always at least one query's).
constexpr size_t max_score_bytes = size_t{32} << 20;
/// Rows of scores lie this many floats further apart than they are long, so that they spread over the cache's sets.
constexpr int stride_padding = 16;
/// Lanes of the widest vector.
constexpr int max_lanes = 16;

/// The queries [first_query, last_query) of the query heads [first_head, first_head + n_head), all of one key/value
/// head. Row r is query first_query + r / n_head of head first_head + r % n_head.
struct Rows {
    int head_kv = 0;
    int first_head = 0;
    int n_head = 0;
    int first_query = 0;
    int last_query = 0;

    int n_row() const { return (last_query - first_query) * n_head; }
};

struct Scratch {
    AlignedBuffer queries;  ///< [rows][head_dim], rows a multiple of row_step, scaled to powers of two
    AlignedBuffer widened;  ///< [row_step][head_dim padded to row_step] keys in float32
    AlignedBuffer turned;   ///< [blocks][head_dim padded to row_step][block_keys]; one block when there is one tile
    AlignedBuffer& scores = thread_scratch();  ///< [rows][stride], then exponentials
    AlignedBuffer factors;   ///< [rows][factor_stride] a block's running maximum, then what makes it probabilities
    AlignedBuffer maxima;    ///< [rows]
    AlignedBuffer partials;  ///< [rows][max_lanes] sums of exponentials
};

/// How the scratch is laid out for one layer.
struct Layout {
    int n_block = 0;       ///< blocks of keys
    int turned_block = 0;  ///< floats of a turned block
    size_t stride = 0;
    size_t factor_stride = 0;

    explicit Layout(const ScoreQueries& queries)
        : n_block((queries.n_rows + block_keys - 1) / block_keys),
          turned_block(round_up(queries.head_dim, row_step) * block_keys),
          stride(static_cast<size_t>(n_block) * block_keys + stride_padding),
          factor_stride(static_cast<size_t>(round_up(n_block, max_lanes))) {}
};

/// Keys that a query sees; without a softmax only those that are scored are of interest.
inline int n_visible(const ScoreQueries& queries, int query) {
    if (!queries.softmax) {
        return queries.n_col;
    }
    const int row = queries.n_rows - queries.n_query + query;
    return row < queries.first_masked_row ? queries.n_rows : row + 1;
}

/// Keys that any of the rows sees.
inline int n_visible(const ScoreQueries& queries, const Rows& rows) {
    return std::max(n_visible(queries, rows.first_query), n_visible(queries, rows.last_query - 1));
}

}  // namespace fastkv::kernels::scores
#endif

HWY_BEFORE_NAMESPACE();
namespace fastkv::kernels {
namespace HWY_NAMESPACE {

/// target[i][0..3] = component i of four rows, for i < n; n is a multiple of 4.
#if HWY_TARGET == HWY_SCALAR
void turn_four(const float* rows, int n, float* target) {
    for (int i = 0; i < n; ++i) {
        for (int j = 0; j < 4; ++j) {
            target[i * scores::block_keys + j] = rows[j * n + i];
        }
    }
}
#else
void turn_four(const float* rows, int n, float* target) {
    const hn::Full128<float> d;
    for (int i = 0; i < n; i += 4) {
        const auto a = hn::Load(d, rows + i);
        const auto b = hn::Load(d, rows + n + i);
        const auto c = hn::Load(d, rows + 2 * n + i);
        const auto e = hn::Load(d, rows + 3 * n + i);
        const auto ab_lower = hn::InterleaveLower(d, a, b);
        const auto ce_lower = hn::InterleaveLower(d, c, e);
        const auto ab_upper = hn::InterleaveUpper(d, a, b);
        const auto ce_upper = hn::InterleaveUpper(d, c, e);
        float* out = target + i * scores::block_keys;
        hn::Store(hn::ConcatLowerLower(d, ce_lower, ab_lower), d, out);
        hn::Store(hn::ConcatUpperUpper(d, ce_lower, ab_lower), d, out + scores::block_keys);
        hn::Store(hn::ConcatLowerLower(d, ce_upper, ab_upper), d, out + 2 * scores::block_keys);
        hn::Store(hn::ConcatUpperUpper(d, ce_upper, ab_upper), d, out + 3 * scores::block_keys);
    }
}
#endif

/// turned[i][j] = component i of key first + j; 0 beyond the last key.
void turn_keys(const ScoreQueries& queries, int head_kv, int first, float* widened, float* turned) {
    const auto* keys =
        static_cast<const std::byte*>(queries.k.data) + static_cast<size_t>(head_kv) * queries.k.head_stride;
    const int dim = round_up(queries.head_dim, scores::row_step);
    for (int j = 0; j < scores::block_keys; j += scores::row_step) {
        for (int e = 0; e < scores::row_step; ++e) {
            const int key = first + j + e;
            if (key < queries.n_rows) {
                convert_kv_row(keys + static_cast<size_t>(key) * queries.k.row_stride, queries.k.type, queries.head_dim,
                               GemmType::f32, widened + e * dim, dim);
            } else {
                std::fill(widened + e * dim, widened + (e + 1) * dim, 0.0F);
            }
        }
        turn_four(widened, dim, turned + j);
    }
}

/// Scores of row_step query rows against one block of turned keys.
HWY_INLINE void score_block(const float* q, int head_dim, const float* turned, float* target, size_t stride) {
    const DF d;
    const int lanes = static_cast<int>(hn::Lanes(d));
    constexpr int R = scores::row_step;
    constexpr int V = HWY_ARCH_X86 && HWY_TARGET > HWY_AVX3 ? 2 : 4;  // for 16 registers, or 32
    for (int first = 0; first < scores::block_keys; first += V * lanes) {
        VF sum[R][V];
        for (int r = 0; r < R; ++r) {
            for (int c = 0; c < V; ++c) {
                sum[r][c] = hn::Zero(d);
            }
        }
        for (int i = 0; i < head_dim; ++i) {
            VF key[V];
            for (int c = 0; c < V; ++c) {
                key[c] = hn::Load(d, turned + i * scores::block_keys + first + c * lanes);
            }
            for (int r = 0; r < R; ++r) {
                const VF component = hn::Set(d, q[r * head_dim + i]);
                for (int c = 0; c < V; ++c) {
                    sum[r][c] = hn::MulAdd(component, key[c], sum[r][c]);
                }
            }
        }
        for (int r = 0; r < R; ++r) {
            for (int c = 0; c < V; ++c) {
                hn::Store(sum[r][c], d, target + static_cast<size_t>(r) * stride + first + c * lanes);
            }
        }
    }
}

/// One row's scores of one block become exponentials relative to the row's maximum so far, which is brought up to
/// date, as is partial [lanes], the sum of the exponentials. Keys from n_visible on get 0.
HWY_INLINE void fold_block(float* row, int n_visible, float* max, float* partial) {
    const DF d;
    const int lanes = static_cast<int>(hn::Lanes(d));
    if (n_visible <= 0) {
        std::fill(row, row + scores::block_keys, 0.0F);
        return;
    }
    if (n_visible < scores::block_keys) {
        std::fill(row + n_visible, row + scores::block_keys, -std::numeric_limits<float>::infinity());
    }
    VF block_max = hn::Load(d, row);
    for (int j = lanes; j < scores::block_keys; j += lanes) {
        block_max = hn::Max(block_max, hn::Load(d, row + j));
    }
    const float new_max = hn::GetLane(hn::MaxOfLanes(d, block_max));
    VF total = hn::Load(d, partial);
    if (new_max > *max) {
        total = hn::Mul(total, hn::Set(d, std::exp2(*max - new_max)));
        *max = new_max;
    }
    const VF reference = hn::Set(d, *max);
    for (int j = 0; j < scores::block_keys; j += lanes) {
        const VF p = exp2<Exp2::exact>(d, hn::Sub(hn::Load(d, row + j), reference));
        total = hn::Add(total, p);
        hn::Store(p, d, row + j);
    }
    hn::Store(total, d, partial);
}

/// Loads the rows' queries, scaled for powers of two, or as they are for raw scores.
void load_queries(const ScoreQueries& queries, const scores::Rows& rows, scores::Scratch& scratch) {
    const int dim = queries.head_dim;
    const int n_row = rows.n_row();
    const int n_padded = round_up(n_row, scores::row_step);
    auto* q = scratch.queries.reserve_as<float>(static_cast<size_t>(n_padded * dim));
    for (int r = 0; r < n_row; ++r) {
        const size_t source =
            static_cast<size_t>(rows.first_query + r / rows.n_head) * static_cast<size_t>(queries.n_head) +
            static_cast<size_t>(rows.first_head + r % rows.n_head);
        convert_row(queries.q + source * static_cast<size_t>(dim), dim, queries.softmax ? queries.scale * log2_e : 1.0F,
                    GemmType::f32, q + r * dim, dim);
    }
    std::fill(q + n_row * dim, q + n_padded * dim, 0.0F);
}

/// Scores of a tile's rows: in `scores` exponentials, in `factors` for each block the maximum that they are relative
/// to, in `maxima` and `partials` what the rows end with. Raw scores are left as they are.
void score_tile(const ScoreQueries& queries, const scores::Rows& rows, const float* turned_keys,
                scores::Scratch& scratch) {
    const scores::Layout layout(queries);
    const int n_row = rows.n_row();
    const int n_padded = round_up(n_row, scores::row_step);
    const auto n_row_size = static_cast<size_t>(n_padded);
    auto* all = scratch.scores.reserve_as<float>(n_row_size * layout.stride);
    auto* factors = scratch.factors.reserve_as<float>(n_row_size * layout.factor_stride);
    auto* max = scratch.maxima.reserve_as<float>(n_row_size);
    auto* partial = scratch.partials.reserve_as<float>(n_row_size * scores::max_lanes);
    std::fill(max, max + n_row, -std::numeric_limits<float>::infinity());
    std::fill(partial, partial + n_row * scores::max_lanes, 0.0F);
    load_queries(queries, rows, scratch);
    const auto* q = scratch.queries.as<float>();
    const int n_key = scores::n_visible(queries, rows);
    for (int b = 0; b * scores::block_keys < n_key; ++b) {
        const int first = b * scores::block_keys;
        const float* turned = turned_keys + static_cast<size_t>(b) * static_cast<size_t>(layout.turned_block);
        if (turned_keys == nullptr) {
            turn_keys(queries, rows.head_kv, first, scratch.widened.as<float>(), scratch.turned.as<float>());
            turned = scratch.turned.as<float>();
        }
        for (int r = 0; r < n_padded; r += scores::row_step) {
            score_block(q + r * queries.head_dim, queries.head_dim, turned,
                        all + static_cast<size_t>(r) * layout.stride + first, layout.stride);
        }
        for (int r = 0; queries.softmax && r < n_row; ++r) {
            fold_block(all + static_cast<size_t>(r) * layout.stride + first,
                       scores::n_visible(queries, rows.first_query + r / rows.n_head) - first, max + r,
                       partial + r * scores::max_lanes);
            factors[static_cast<size_t>(r) * layout.factor_stride + static_cast<size_t>(b)] = max[r];
        }
    }
}

/// Turns a tile's `factors` into what its exponentials, or raw scores, have to be multiplied by: so that a row's
/// probabilities add up to weight(query).
template <class Weight>
void finish_factors(const ScoreQueries& queries, const scores::Rows& rows, const Weight& weight,
                    scores::Scratch& scratch) {
    const DF d;
    const int lanes = static_cast<int>(hn::Lanes(d));
    const scores::Layout layout(queries);
    for (int r = 0; r < rows.n_row(); ++r) {
        float* factors = scratch.factors.as<float>() + static_cast<size_t>(r) * layout.factor_stride;
        float factor = weight(rows.first_query + r / rows.n_head);
        if (!queries.softmax) {
            std::fill(factors, factors + layout.n_block, factor);
            continue;
        }
        const VF partial = hn::Load(d, scratch.partials.as<float>() + r * scores::max_lanes);
        factor /= hn::GetLane(hn::SumOfLanes(d, partial));
        const VF max = hn::Set(d, scratch.maxima.as<float>()[r]);
        for (int b = 0; b < layout.n_block; b += lanes) {
            const VF decay = exp2<Exp2::exact>(d, hn::Sub(hn::Load(d, factors + b), max));
            hn::Store(hn::Mul(decay, hn::Set(d, factor)), d, factors + b);
        }
    }
}

/// target[j] += Σ_r factors[r]·rows[r][j] for V vectors of columns.
template <int V>
HWY_INLINE void add_cols(const float* rows, size_t stride, const float* factors, size_t factor_stride, int n_row,
                         float* target) {
    const DF d;
    const int lanes = static_cast<int>(hn::Lanes(d));
    VF sum[V];
    for (int c = 0; c < V; ++c) {
        sum[c] = hn::LoadU(d, target + c * lanes);
    }
    for (int r = 0; r < n_row; ++r, rows += stride, factors += factor_stride) {
        const VF factor = hn::Set(d, *factors);
        for (int c = 0; c < V; ++c) {
            sum[c] = hn::MulAdd(factor, hn::LoadU(d, rows + c * lanes), sum[c]);
        }
    }
    for (int c = 0; c < V; ++c) {
        hn::StoreU(sum[c], d, target + c * lanes);
    }
}

/// target[j] += Σ_r of the tile's finished scores for j < n_col, over the n_row rows first, first + step, ...
void add_rows(const ScoreQueries& queries, const scores::Scratch& scratch, int first, int step, int n_row, int n_col,
              float* target) {
    const scores::Layout layout(queries);
    const int lanes = static_cast<int>(hn::Lanes(DF()));
    constexpr int V = 4;
    const float* rows = scratch.scores.as<float>() + static_cast<size_t>(first) * layout.stride;
    const float* factors = scratch.factors.as<float>() + static_cast<size_t>(first) * layout.factor_stride;
    const size_t stride = static_cast<size_t>(step) * layout.stride;
    const size_t factor_stride = static_cast<size_t>(step) * layout.factor_stride;
    for (int b = 0; b * scores::block_keys < n_col; ++b, ++factors) {
        const int end = std::min((b + 1) * scores::block_keys, n_col);
        int j = b * scores::block_keys;
        for (; j + V * lanes <= end; j += V * lanes) {
            add_cols<V>(rows + j, stride, factors, factor_stride, n_row, target + j);
        }
        for (; j + lanes <= end; j += lanes) {
            add_cols<1>(rows + j, stride, factors, factor_stride, n_row, target + j);
        }
        for (; j < end; ++j) {
            for (int r = 0; r < n_row; ++r) {
                const auto row = static_cast<size_t>(r);
                target[j] += factors[row * factor_stride] * rows[row * stride + static_cast<size_t>(j)];
            }
        }
    }
}

/// Scores `rows` tile by tile; use(tile) finds each tile's scores in the scratch.
template <class Use>
void for_tiles(const ScoreQueries& queries, const scores::Rows& rows, scores::Scratch& scratch, const Use& use) {
    const scores::Layout layout(queries);
    const int n_query = rows.last_query - rows.first_query;
    const auto fitting = static_cast<int>(
        std::min<size_t>(scores::max_score_bytes / (layout.stride * sizeof(float)), scores::max_tile_rows));
    const int most = std::max(1, fitting / rows.n_head);
    const int n_tile = (n_query + most - 1) / most;
    const int n_turned = n_tile == 1 ? 1 : layout.n_block;
    scratch.widened.reserve_as<float>(static_cast<size_t>(layout.turned_block / scores::block_keys * scores::row_step));
    auto* turned =
        scratch.turned.reserve_as<float>(static_cast<size_t>(n_turned) * static_cast<size_t>(layout.turned_block));
    for (int b = 0; n_tile > 1 && b * scores::block_keys < scores::n_visible(queries, rows); ++b) {
        turn_keys(queries, rows.head_kv, b * scores::block_keys, scratch.widened.as<float>(),
                  turned + static_cast<size_t>(b) * static_cast<size_t>(layout.turned_block));
    }
    for (int t = 0; t < n_tile; ++t) {
        scores::Rows tile = rows;
        tile.first_query = rows.first_query + static_cast<int>(int64_t{n_query} * t / n_tile);
        tile.last_query = rows.first_query + static_cast<int>(int64_t{n_query} * (t + 1) / n_tile);
        score_tile(queries, tile, n_tile > 1 ? turned : nullptr, scratch);
        use(tile);
    }
}

scores::Scratch& score_scratch() {
    static thread_local scores::Scratch scratch;
    return scratch;
}

/// Query heads [begin, end).
void sum_share(const ScoreQueries& queries, float* sums, int begin, int end) {
    scores::Scratch& scratch = score_scratch();
    const auto n_col = static_cast<size_t>(queries.n_col);
    std::fill(sums + static_cast<size_t>(begin) * n_col, sums + static_cast<size_t>(end) * n_col, 0.0F);
    const float weight_step =
        queries.n_query > 1 ? (queries.last_weight - 1.0F) / static_cast<float>(queries.n_query - 1) : 0.0F;
    const int heads_per_kv = queries.n_head / queries.n_head_kv;
    for (int head = begin; head < end;) {
        const int head_kv = head / heads_per_kv;
        const int n_head = std::min(end, (head_kv + 1) * heads_per_kv) - head;
        for_tiles(queries, {head_kv, head, n_head, 0, queries.n_query}, scratch, [&](const scores::Rows& tile) {
            finish_factors(
                queries, tile, [&](int query) { return 1.0F + weight_step * static_cast<float>(query); }, scratch);
            const int n = std::min(queries.n_col, scores::n_visible(queries, tile));
            for (int g = 0; g < n_head; ++g) {
                add_rows(queries, scratch, g, n_head, tile.last_query - tile.first_query, n,
                         sums + static_cast<size_t>(head + g) * n_col);
            }
        });
        head += n_head;
    }
}

/// Queries [begin, end).
void mean_share(const ScoreQueries& queries, float* mean, int begin, int end) {
    scores::Scratch& scratch = score_scratch();
    const auto n_rows = static_cast<size_t>(queries.n_rows);
    std::fill(mean + static_cast<size_t>(begin) * n_rows, mean + static_cast<size_t>(end) * n_rows, 0.0F);
    const float weight = 1.0F / static_cast<float>(queries.n_head);
    const int n_head = queries.n_head / queries.n_head_kv;
    for (int head_kv = 0; begin < end && head_kv < queries.n_head_kv; ++head_kv) {
        for_tiles(queries, {head_kv, head_kv * n_head, n_head, begin, end}, scratch, [&](const scores::Rows& tile) {
            finish_factors(
                queries, tile, [&](int) { return weight; }, scratch);
            for (int query = tile.first_query; query < tile.last_query; ++query) {
                add_rows(queries, scratch, (query - tile.first_query) * n_head, 1, n_head,
                         scores::n_visible(queries, query), mean + static_cast<size_t>(query) * n_rows);
            }
        });
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace fastkv::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fastkv::kernels {

HWY_EXPORT(sum_share);
HWY_EXPORT(mean_share);

void key_scores(const ScoreQueries& queries, float* sums, int ith, int nth) {
    HWY_DYNAMIC_DISPATCH(sum_share)(queries, sums, queries.n_head * ith / nth, queries.n_head * (ith + 1) / nth);
}

void mean_attention(const ScoreQueries& queries, float* mean, int ith, int nth) {
    ScoreQueries probabilities = queries;
    probabilities.softmax = true;
    const auto edge = [&](int thread) { return static_cast<int>(int64_t{queries.n_query} * thread / nth); };
    HWY_DYNAMIC_DISPATCH(mean_share)(probabilities, mean, edge(ith), edge(ith + 1));
}

}  // namespace fastkv::kernels
#endif
