// Decoding's attention: memory-bound, so every entry of K and V is read once, widened in registers, and used by all
// the query heads that share it.
#include "kernels/cache_attention.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cache_attention.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/aligned_buffer.h"
#include "kernels/exp2-inl.h"
#include "kernels/load-inl.h"
#include "kernels/vector_ops.h"

#ifndef FASTKV_KERNELS_CACHE_ATTENTION_ONCE
#define FASTKV_KERNELS_CACHE_ATTENTION_ONCE
namespace fastkv::kernels::cache {

/// Entries per step of the online softmax: their K, then their V, stay in the first-level cache while they are used.
constexpr int block_entries = 64;
/// Places of a long range that are read by turns, as several streams of memory arrive faster than one.
constexpr int n_stream = 4;
/// Entries of a stream, at least. Short ranges come from the caches anyway, and more beginnings that nothing has asked
/// for cost more than one.
constexpr int long_stream = 4 * block_entries;
/// Query heads whose sums are kept in registers together.
constexpr int max_group = 8;
/// Measured: 1 to 2 KiB are best, 4 KiB cost 5 %, without it a third of the speed is lost.
constexpr size_t fetch_ahead_bytes = 2048;
constexpr size_t line_bytes = 64;
/// Pieces of a query for each thread, at most: then the last are small enough for the threads to end together.
constexpr int max_pieces = 32;
/// Rows of queries and outputs are padded with zeros to whole vectors of any target.
constexpr int row_step = 16;

/// Entries of one head within a block: one behind the other, or by turns from n_stream places.
struct Entries {
    int first = 0;
    int n = 0;
    int step = n_stream;  ///< from a round of the places to the next
    int apart = 1;        ///< from a place to the next

    int at(int j) const { return first + j / n_stream * step + j % n_stream * apart; }
};

/// Their rows of K or V, in bytes: multiplied out once for a block, as doing it row by row takes 3 % of one thread.
struct Rows {
    const std::byte* data = nullptr;
    size_t size = 0;   ///< of a row
    size_t step = 0;   ///< from a round of the places to the next
    size_t apart = 0;  ///< from a place to the next

    template <class T>
    const T* at(int j) const {
        const auto round = static_cast<size_t>(j / n_stream), place = static_cast<size_t>(j % n_stream);
        return reinterpret_cast<const T*>(data + round * step + place * apart);
    }
};

struct Scratch {
    AlignedBuffer queries;     ///< [n_head][padded dim], scaled so that scores come out in powers of two
    AlignedBuffer outputs;     ///< [max_group][padded dim]
    AlignedBuffer scores;      ///< [max_group][block_entries], then their exponentials
    AlignedBuffer all_scores;  ///< [max_group][entries padded to blocks], for the probabilities themselves
    AlignedBuffer widened;     ///< K, then V: [block_entries][padded dim] where rows are not whole vectors
};

}  // namespace fastkv::kernels::cache
#endif

HWY_BEFORE_NAMESPACE();
namespace fastkv::kernels {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR
HWY_INLINE void store_sums(VF a, VF b, VF c, VF e, float* target) {
    target[0] = hn::GetLane(a);
    target[1] = hn::GetLane(b);
    target[2] = hn::GetLane(c);
    target[3] = hn::GetLane(e);
}
#else
/// The sum of a vector's 128-bit blocks.
HWY_INLINE hn::Vec<hn::Full128<float>> sum_of_blocks(hn::Full128<float>, hn::Vec<hn::Full128<float>> v) { return v; }
template <class D>
HWY_INLINE hn::Vec<hn::Full128<float>> sum_of_blocks(D, hn::Vec<D> v) {
    const hn::Half<D> half;
    return sum_of_blocks(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
}

/// target[0..3] = the sums of the lanes of four vectors, by turning 4x4 blocks: a third of the work of four sums.
HWY_INLINE void store_sums(VF a, VF b, VF c, VF e, float* target) {
    const DF d;
    const hn::Repartition<uint64_t, DF> d64;
    const VF ab = hn::Add(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b));  // a b a b in each block
    const VF ce = hn::Add(hn::InterleaveLower(d, c, e), hn::InterleaveUpper(d, c, e));
    const auto lower = hn::InterleaveLower(d64, hn::BitCast(d64, ab), hn::BitCast(d64, ce));
    const auto upper = hn::InterleaveUpper(d64, hn::BitCast(d64, ab), hn::BitCast(d64, ce));
    const VF sums = hn::Add(hn::BitCast(d, lower), hn::BitCast(d, upper));  // a b c e in each block
    hn::StoreU(sum_of_blocks(d, sums), hn::Full128<float>(), target);
}
#endif

/// Asks for what lies a few kilobytes behind a row: blocks of K and V take turns, which is too short a stretch for the
/// processor's own prefetching.
HWY_INLINE void fetch_ahead(const void* row, size_t row_bytes) {
    for (size_t b = 0; b < row_bytes; b += cache::line_bytes) {
        hwy::Prefetch(static_cast<const std::byte*>(row) + cache::fetch_ahead_bytes + b);
    }
}

/// scores[g][j] = q[g]·k[j] for G heads and n entries; dim is whole vectors. Up to three scores beyond n are written.
template <class T, int G>
HWY_INLINE void score(const cache::Rows& k, int n, int dim, const float* q, float* scores) {
    const DF d;
    const int lanes = static_cast<int>(hn::Lanes(d));
    constexpr int E = 4;  // entries at a time
    for (int j = 0; j < n; j += E) {
        const T* row[E];
        VF sum[G][E];
        for (int e = 0; e < E; ++e) {
            row[e] = k.at<T>(std::min(j + e, n - 1));
            fetch_ahead(row[e], k.size);
            for (int g = 0; g < G; ++g) {
                sum[g][e] = hn::Zero(d);
            }
        }
        for (int i = 0; i < dim; i += lanes) {
            VF key[E];
            for (int e = 0; e < E; ++e) {
                key[e] = load(row[e], static_cast<size_t>(i));
            }
            for (int g = 0; g < G; ++g) {
                const VF component = hn::Load(d, q + g * dim + i);
                for (int e = 0; e < E; ++e) {
                    sum[g][e] = hn::MulAdd(key[e], component, sum[g][e]);
                }
            }
        }
        for (int g = 0; g < G; ++g) {
            store_sums(sum[g][0], sum[g][1], sum[g][2], sum[g][3], scores + g * cache::block_entries + j);
        }
    }
}

/// out[g] += Σ_j weight[g][j]·v[j] for the `V` vectors of columns from `first` on.
template <class T, int G, int V>
HWY_INLINE void add_weighted_cols(const cache::Rows& v, int n, int dim, int first, const float* weights, float* out) {
    const DF d;
    const int lanes = static_cast<int>(hn::Lanes(d));
    VF sum[G][V];
    for (int g = 0; g < G; ++g) {
        for (int c = 0; c < V; ++c) {
            sum[g][c] = hn::Load(d, out + g * dim + first + c * lanes);
        }
    }
    for (int j = 0; j < n; ++j) {
        const T* row = v.at<T>(j);
        if (first == 0) fetch_ahead(row, v.size);
        VF value[V];
        for (int c = 0; c < V; ++c) {
            value[c] = load(row, static_cast<size_t>(first + c * lanes));
        }
        for (int g = 0; g < G; ++g) {
            const VF weight = hn::Set(d, weights[g * cache::block_entries + j]);
            for (int c = 0; c < V; ++c) {
                sum[g][c] = hn::MulAdd(weight, value[c], sum[g][c]);
            }
        }
    }
    for (int g = 0; g < G; ++g) {
        for (int c = 0; c < V; ++c) {
            hn::Store(sum[g][c], d, out + g * dim + first + c * lanes);
        }
    }
}

template <class T, int G>
void add_weighted(const cache::Rows& v, int n, int dim, const float* weights, float* out) {
    const int lanes = static_cast<int>(hn::Lanes(DF()));
    constexpr int V = G <= 4 ? 4 : 2;  // sums fill at most 16 registers
    int i = 0;
    for (; i + V * lanes <= dim; i += V * lanes) {
        add_weighted_cols<T, G, V>(v, n, dim, i, weights, out);
    }
    for (; i < dim; i += lanes) {
        add_weighted_cols<T, G, 1>(v, n, dim, i, weights, out);
    }
}

/// scores [block_entries] of one head become their exponentials; max, sum and out [dim] are brought up to date.
void fold_scores(float* scores, int n, int dim, float* max, float* sum, float* out) {
    const DF d;
    const int lanes = static_cast<int>(hn::Lanes(d));
    const int n_padded = round_up(n, cache::row_step);
    std::fill(scores + n, scores + n_padded, -std::numeric_limits<float>::infinity());
    VF block_max = hn::Load(d, scores);
    for (int j = lanes; j < n_padded; j += lanes) {
        block_max = hn::Max(block_max, hn::Load(d, scores + j));
    }
    const float new_max = std::max(*max, hn::GetLane(hn::MaxOfLanes(d, block_max)));
    if (new_max > *max) {
        const float decay = std::exp2(*max - new_max);
        *max = new_max;
        *sum *= decay;
        for (int i = 0; i < dim; i += lanes) {
            hn::Store(hn::Mul(hn::Load(d, out + i), hn::Set(d, decay)), d, out + i);
        }
    }
    // With every entry so far outside the sliding window max is -inf, and any finite reference gives 0.
    const VF reference = hn::Set(d, std::isinf(*max) ? 0.0F : *max);
    VF total = hn::Zero(d);
    for (int j = 0; j < n_padded; j += lanes) {
        const VF p = exp2<Exp2::exact>(d, hn::Sub(hn::Load(d, scores + j), reference));
        total = hn::Add(total, p);
        hn::Store(p, d, scores + j);
    }
    *sum += hn::GetLane(hn::SumOfLanes(d, total));
}

/// score() for up to max_group heads, whose sums may not all fit into registers at once.
template <class T, int G>
void score_group(const cache::Rows& k, int n, int dim, const float* q, float* scores) {
    constexpr int lower = std::min(G, 4);
    score<T, lower>(k, n, dim, q, scores);
    if constexpr (G > lower) {
        score<T, G - lower>(k, n, dim, q + lower * dim, scores + lower * cache::block_entries);
    }
}

/// What reads rows of one type for a group of heads. K and V may be of different types.
using Score = decltype(&score_group<float, 1>);
using AddWeighted = decltype(&add_weighted<float, 1>);

template <class T>
Score score_of_group(int group) {
    constexpr Score table[cache::max_group] = {score_group<T, 1>, score_group<T, 2>, score_group<T, 3>,
                                               score_group<T, 4>, score_group<T, 5>, score_group<T, 6>,
                                               score_group<T, 7>, score_group<T, 8>};
    return table[group - 1];
}

template <class T>
AddWeighted add_weighted_of_group(int group) {
    constexpr AddWeighted table[cache::max_group] = {add_weighted<T, 1>, add_weighted<T, 2>, add_weighted<T, 3>,
                                                     add_weighted<T, 4>, add_weighted<T, 5>, add_weighted<T, 6>,
                                                     add_weighted<T, 7>, add_weighted<T, 8>};
    return table[group - 1];
}

Score score_for(KvType type, int group) {
    switch (type) {
        case KvType::f32: return score_of_group<float>(group);
        case KvType::f16: return score_of_group<hwy::float16_t>(group);
        case KvType::q8_0: return score_of_group<Q8Block>(group);
        case KvType::q5_0: return score_of_group<Q5Block>(group);
        case KvType::q4_0: break;
    }
    return score_of_group<Q4Block>(group);
}

AddWeighted add_weighted_for(KvType type, int group) {
    switch (type) {
        case KvType::f32: return add_weighted_of_group<float>(group);
        case KvType::f16: return add_weighted_of_group<hwy::float16_t>(group);
        case KvType::q8_0: return add_weighted_of_group<Q8Block>(group);
        case KvType::q5_0: return add_weighted_of_group<Q5Block>(group);
        case KvType::q4_0: break;
    }
    return add_weighted_of_group<Q4Block>(group);
}

/// What one thread works with: rows of queries are `dim` values long, widened ones of K and V too.
struct Work {
    const CacheQuery* query = nullptr;
    cache::Scratch* scratch = nullptr;
    int dim = 0;
    bool widen = false;  ///< rows are not whole vectors, which must not run over a row's end
};

/// Query heads [first, first + n) of one cached head.
struct Group {
    const CacheHead* head = nullptr;
    int first = 0;
    int n = 0;
};

/// Sizes this thread's scratch and loads the query heads [first, last), scaled so that scores are powers of two.
Work begin_work(const CacheQuery& query, int first, int last) {
    static thread_local cache::Scratch scratch;
    const bool widen = query.head_dim % static_cast<int>(hn::Lanes(DF())) != 0;
    const int dim = widen ? round_up(query.head_dim, cache::row_step) : query.head_dim;
    const auto dim_size = static_cast<size_t>(dim);
    auto* q = scratch.queries.reserve_as<float>(static_cast<size_t>(query.n_head) * dim_size);
    scratch.outputs.reserve_as<float>(cache::max_group * dim_size);
    scratch.scores.reserve_as<float>(cache::max_group * cache::block_entries);
    scratch.widened.reserve_as<float>(widen ? cache::block_entries * dim_size : 0);
    for (int h = first; h < last; ++h) {
        convert_row(query.q + h * query.head_dim, query.head_dim, query.scale * log2_e, GemmType::f32, q + h * dim,
                    dim);
        if (!query.k_scale) continue;
        const float* k_scale = query.k_scale + h / (query.n_head / query.n_head_kv) * query.head_dim;
        for (int i = 0; i < query.head_dim; ++i) q[h * dim + i] *= k_scale[i];
    }
    return {&query, &scratch, dim, widen};
}

/// Calls do_group(Group) for the query heads [first, last), as many at a time as share a cached head and fit.
template <class DoGroup>
void for_groups(const CacheQuery& query, int first, int last, const DoGroup& do_group) {
    const int heads_per_kv = query.n_head / query.n_head_kv;
    for (int h = first; h < last;) {
        const int head_kv = h / heads_per_kv;
        const int n = std::min({cache::max_group, last - h, (head_kv + 1) * heads_per_kv - h});
        do_group(Group{query.heads + head_kv, h, n});
        h += n;
    }
}

/// Entries of a head, as they lie or widened and padded.
cache::Rows rows_of(const Work& work, const KvRows& rows, const CacheHead& head, const cache::Entries& entries) {
    const size_t size = rows.row_stride;
    const auto* data = static_cast<const std::byte*>(rows.data) + static_cast<size_t>(head.first_row) * size;
    const auto bytes = [&](int n_row) { return static_cast<size_t>(n_row) * size; };
    if (!work.widen) return {data + bytes(entries.first), size, bytes(entries.step), bytes(entries.apart)};
    auto* widened = work.scratch->widened.as<float>();
    for (int j = 0; j < entries.n; ++j) {
        convert_kv_row(data + bytes(entries.at(j)), rows.type, work.query->head_dim, GemmType::f32,
                       widened + j * work.dim, work.dim);
    }
    const size_t wide = static_cast<size_t>(work.dim) * sizeof(float);
    return {reinterpret_cast<const std::byte*>(widened), wide, cache::n_stream * wide, wide};
}

/// Which of a head's entries the sliding window hides; null without a window.
const bool* hidden_entries(const CacheQuery& query, const CacheHead& head, const cache::Entries& entries,
                           bool* hidden) {
    if (query.sliding_window == 0) {
        return nullptr;
    }
    for (int j = 0; j < entries.n; ++j) {
        hidden[j] = query.query_position - head.position[entries.at(j)] >= query.sliding_window;
    }
    return hidden;
}

/// Scores of a group over a block's entries in the scratch's `scores`, -inf for hidden ones. False where the sliding
/// window hides all of them: then nothing is computed.
bool score_entries(const Work& work, const Group& group, Score score_block, const cache::Entries& entries) {
    const int n = entries.n;
    bool storage[cache::block_entries];
    const bool* hidden = hidden_entries(*work.query, *group.head, entries, storage);
    if (hidden != nullptr && std::all_of(hidden, hidden + n, [](bool h) { return h; })) {
        return false;
    }
    auto* scores = work.scratch->scores.as<float>();
    const cache::Rows k = rows_of(work, work.query->k, *group.head, entries);
    score_block(k, n, work.dim, work.scratch->queries.as<float>() + group.first * work.dim, scores);
    for (int g = 0; hidden != nullptr && g < group.n; ++g) {
        float* row = scores + g * cache::block_entries;
        for (int j = 0; j < n; ++j) {
            row[j] = hidden[j] ? -std::numeric_limits<float>::infinity() : row[j];
        }
    }
    return true;
}

/// Calls do_block(Entries) for the entries [begin, end) of a head, a block behind the other.
template <class DoBlock>
void for_blocks(int begin, int end, const DoBlock& do_block) {
    for (; begin < end; begin += cache::block_entries) {
        do_block(cache::Entries{.first = begin, .n = std::min(cache::block_entries, end - begin)});
    }
}

/// The same where their order is all one: those of a long range from all its streams by turns. Not with a sliding
/// window, which hides blocks as a whole.
template <class DoBlock>
void for_streams(const CacheQuery& query, int begin, int end, const DoBlock& do_block) {
    constexpr int rounds = cache::block_entries / cache::n_stream;  // of a block
    const int stream = query.sliding_window == 0 ? (end - begin) / cache::n_stream : 0;
    if (stream >= cache::long_stream) {
        for (int i = 0; i < stream; i += rounds) {
            const int n = cache::n_stream * std::min(rounds, stream - i);
            do_block(cache::Entries{.first = begin + i, .n = n, .step = 1, .apart = stream});
        }
        begin += cache::n_stream * stream;
    }
    for_blocks(begin, end, do_block);
}

/// One group over the entries [begin, end) of its cached head, into partial [group][2 + head_dim].
void attend_group(const Work& work, const Group& group, int begin, int end, float* partial) {
    const CacheQuery& query = *work.query;
    const int dim = work.dim;
    auto* out = work.scratch->outputs.as<float>();
    auto* scores = work.scratch->scores.as<float>();
    float max[cache::max_group];
    float sum[cache::max_group] = {};
    const Score score_block = score_for(work.widen ? KvType::f32 : query.k.type, group.n);
    const AddWeighted add_block = add_weighted_for(work.widen ? KvType::f32 : query.v.type, group.n);
    std::fill(max, max + group.n, -std::numeric_limits<float>::infinity());
    std::fill(out, out + group.n * dim, 0.0F);
    for_streams(query, begin, end, [&](const cache::Entries& entries) {
        if (!score_entries(work, group, score_block, entries)) return;
        for (int g = 0; g < group.n; ++g) {
            fold_scores(scores + g * cache::block_entries, entries.n, dim, max + g, sum + g, out + g * dim);
        }
        add_block(rows_of(work, query.v, *group.head, entries), entries.n, dim, scores, out);
    });
    for (int g = 0; g < group.n; ++g) {
        float* target = partial + g * (2 + query.head_dim);
        target[0] = max[g];
        target[1] = sum[g];
        std::copy(out + g * dim, out + g * dim + query.head_dim, target + 2);
    }
}

/// The probabilities of one group over all entries of its cached head.
void weigh_group(const Work& work, const Group& group, float* weights, size_t weight_stride) {
    const int n_entry = group.head->n_entry;
    const int stride = round_up(n_entry, cache::block_entries);
    const size_t n_score = static_cast<size_t>(group.n) * static_cast<size_t>(stride);
    auto* all = work.scratch->all_scores.reserve_as<float>(n_score);
    std::fill(all, all + n_score, -std::numeric_limits<float>::infinity());
    const Score score_block = score_for(work.widen ? KvType::f32 : work.query->k.type, group.n);
    for_blocks(0, n_entry, [&](const cache::Entries& entries) {
        if (!score_entries(work, group, score_block, entries)) return;
        for (int g = 0; g < group.n; ++g) {
            std::copy_n(work.scratch->scores.as<float>() + g * cache::block_entries, entries.n,
                        all + static_cast<size_t>(g) * static_cast<size_t>(stride) + entries.first);
        }
    });
    float max[cache::max_group];
    float sum[cache::max_group] = {};
    float decay[cache::max_group];
    std::fill(max, max + group.n, -std::numeric_limits<float>::infinity());
    softmax_step(all, group.n, stride, GemmType::f32, {max, sum, decay});
    for (int g = 0; g < group.n; ++g) {
        convert_row(all + static_cast<size_t>(g) * static_cast<size_t>(stride), n_entry, 1.0F / sum[g], GemmType::f32,
                    weights + static_cast<size_t>(group.first + g) * weight_stride, n_entry);
    }
}

void weigh_share(const CacheQuery& query, float* weights, size_t weight_stride, int first, int last) {
    const Work work = begin_work(query, first, last);
    for_groups(query, first, last, [&](const Group& group) { weigh_group(work, group, weights, weight_stride); });
}

/// Entries [begin, end) of one cached head, for all query heads that share it, into partial [those heads][2 +
/// head_dim].
void attend_range(const CacheQuery& query, int head_kv, int begin, int end, float* partial) {
    const int heads_per_kv = query.n_head / query.n_head_kv;
    const int first = head_kv * heads_per_kv;
    const Work work = begin_work(query, first, first + heads_per_kv);
    for_groups(query, first, first + heads_per_kv, [&](const Group& group) {
        attend_group(work, group, begin, end, partial + (group.first - first) * (2 + query.head_dim));
    });
}

}  // namespace HWY_NAMESPACE
}  // namespace fastkv::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fastkv::kernels {

HWY_EXPORT(attend_range);
HWY_EXPORT(weigh_share);

/// A cached head of one of the queries.
struct CacheAttention::Head {
    const CacheQuery* query;
    int head_kv;
    int begin, end;  ///< its blocks, on the line
    float* out;      ///< [group][head_dim]

    int group() const { return query->n_head / query->n_head_kv; }
};

/// The blocks of all queries' cached heads, one behind the other, and how threads take them.
struct CacheAttention::Line {
    std::vector<Head> heads;
    std::vector<int> ends = {0};  ///< [pieces + 1]: where piece i begins, and where the last ends

    Line(std::span<const CacheQuery> queries, float* out, int n_thread) {
        for (const CacheQuery& query : queries) {
            add_heads(query, out);
            cut_from(ends.back(), n_thread);
        }
    }
    /// Whose blocks include `block`.
    size_t head_at(int block) const {
        const auto before = [&](const Head& head) { return head.end <= block; };
        return static_cast<size_t>(std::partition_point(heads.begin(), heads.end(), before) - heads.begin());
    }
    int piece_at(int block) const {
        return static_cast<int>(std::upper_bound(ends.begin(), ends.end(), block) - ends.begin()) - 1;
    }
    int n_piece() const { return static_cast<int>(ends.size()) - 1; }
    int begin(int piece) const { return ends[static_cast<size_t>(piece)]; }
    int end(int piece) const { return ends[static_cast<size_t>(piece) + 1]; }

  private:
    void add_heads(const CacheQuery& query, float*& out) {
        for (int head_kv = 0; head_kv < query.n_head_kv; ++head_kv) {
            const int begin = heads.empty() ? 0 : heads.back().end;
            const int n_entry = query.heads[head_kv].n_entry;
            const int end = begin + (n_entry + cache::block_entries - 1) / cache::block_entries;
            heads.push_back({&query, head_kv, begin, end, out});
            out += heads.back().group() * query.head_dim;
        }
    }
    /// A query is cut as if it were alone: sums round alike whatever is decoded beside it.
    void cut_from(int begin, int n_thread) {
        const int n = heads.back().end - begin, most = cache::max_pieces * n_thread;
        const Cut cut{.n = n, .smallest = (n + most - 1) / most};
        for (int end = 0; end < n; ends.push_back(begin + end)) end = cut.end(end, n_thread);
    }
};

namespace {

/// out[head_dim] = what all ranges [n] together have for one query head, each [2 + head_dim].
void merge(std::span<const float* const> ranges, int head_dim, float* out) {
    float max = -std::numeric_limits<float>::infinity();
    for (const float* range : ranges) max = std::max(max, range[0]);
    std::fill(out, out + head_dim, 0.0F);
    float sum = 0;
    for (const float* range : ranges) {
        const float weight = std::exp2(range[0] - max);  // 0 where the sliding window hides all of a range
        sum += weight * range[1];
        for (int i = 0; i < head_dim; ++i) out[i] += weight * range[2 + i];
    }
    for (int i = 0; i < head_dim; ++i) out[i] /= sum;
}

}  // namespace

CacheAttention::CacheAttention(int n_query, int n_head_kv, int max_group, int head_dim, int n_thread)
    : n_range_(n_query * cache::max_pieces * n_thread + n_head_kv),  // one begins where a piece does, or a head
      range_size_(static_cast<size_t>(max_group * (2 + head_dim))),
      done_(static_cast<size_t>(n_head_kv)) {}

void CacheAttention::attend(std::span<const CacheQuery> queries, float* out, float* partial, Team& team) {
    const Line line(queries, out, team.n_thread());
    for (int piece = team.take(); piece < line.n_piece(); piece = team.take()) {
        for (size_t head = line.head_at(line.begin(piece));
             head < line.heads.size() && line.heads[head].begin < line.end(piece); ++head) {
            attend_part(line, piece, head, partial);
        }
    }
}

/// What a piece has of a head.
void CacheAttention::attend_part(const Line& line, int piece, size_t index, float* partial) {
    const Head& head = line.heads[index];
    const int n_entry = head.query->heads[head.head_kv].n_entry, n_block = head.end - head.begin;
    const int first = std::max(line.begin(piece) - head.begin, 0);
    const int last = std::min(line.end(piece) - head.begin, n_block);
    if (first >= last) return;
    HWY_DYNAMIC_DISPATCH(attend_range)
    (*head.query, head.head_kv, first * cache::block_entries, std::min(last * cache::block_entries, n_entry),
     partial + range(piece, index));
    // who adds the last blocks sees what all others have written
    if (done_[index].fetch_add(last - first, std::memory_order_acq_rel) + last - first < n_block) return;
    done_[index].store(0, std::memory_order_relaxed);  // for the next call
    merge_head(line, index, partial);
}

/// Of a head, all ranges of which are there.
void CacheAttention::merge_head(const Line& line, size_t index, const float* partial) const {
    const Head& head = line.heads[index];
    std::vector<const float*> ranges;
    for (int piece = line.piece_at(head.begin); piece < line.n_piece() && line.begin(piece) < head.end; ++piece) {
        ranges.push_back(partial + range(piece, index));
    }
    const int head_dim = head.query->head_dim;
    for (int g = 0; g < head.group(); ++g) {
        merge(ranges, head_dim, head.out + g * head_dim);
        for (const float*& range : ranges) range += 2 + head_dim;
    }
}

void cache_attention_weights(const CacheQuery& query, float* weights, size_t weight_stride, int ith, int nth) {
    HWY_DYNAMIC_DISPATCH(weigh_share)
    (query, weights, weight_stride, query.n_head * ith / nth, query.n_head * (ith + 1) / nth);
}

}  // namespace fastkv::kernels
#endif
