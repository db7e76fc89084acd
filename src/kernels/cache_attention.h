// Attention of query rows over a layer's caches, for decoding: K and V are read once for all the query heads of a
// cached head. Threads take ranges of entries; who finishes a head's last range merges what all have found there.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/kv_view.h"
#include "kernels/team.h"

namespace fastkv::kernels {

/// One cached head: entry j lies in row first_row + j of the tensors. Entries may be in any order of position.
struct CacheHead {
    int64_t first_row = 0;
    int n_entry = 0;                    ///< at least 1
    const int32_t* position = nullptr;  ///< [n_entry] original positions; read only with a sliding window
};

/// Rows of K or V of all cached heads, head after head; the stride is in bytes.
struct KvRows {
    const void* data = nullptr;
    KvType type = KvType::f16;
    size_t row_stride = 0;
};

struct CacheQuery {
    const float* q = nullptr;  ///< [n_head][head_dim], rotated
    KvRows k;
    KvRows v;
    const float* k_scale = nullptr;  ///< [n_head_kv][head_dim]: keys are the stored ones times this; nullptr: as stored
    const CacheHead* heads = nullptr;  ///< [n_head_kv]; of different lengths, the query's own entry in each
    int query_position = 0;
    int n_head = 0;
    int n_head_kv = 0;  ///< cached heads: query head h reads cached head h / (n_head / n_head_kv)
    int head_dim = 0;
    float scale = 0;
    int sliding_window = 0;  ///< 0: none; else entries with query_position - position >= sliding_window are hidden
};

/// The attention of a layer, call after call.
class CacheAttention {
  public:
    /// For `n_query` queries that ask `n_head_kv` cached heads (those of all queries together), each of these for at
    /// most `max_group` query heads.
    CacheAttention(int n_query, int n_head_kv, int max_group, int head_dim, int n_thread);

    /// Floats that `partial` must hold.
    size_t partial_size() const { return static_cast<size_t>(n_range_) * range_size_; }

    /// out[query][n_head][head_dim]: the pieces that this thread of the team takes. `partial` holds what threads find
    /// in ranges of entries until a head's ranges are all there. How sums round depends on how many threads there are,
    /// not on which is faster nor on the other queries.
    void attend(std::span<const CacheQuery> queries, float* out, float* partial, Team& team);

  private:
    struct Head;
    struct Line;

    void attend_part(const Line& line, int piece, size_t head, float* partial);
    void merge_head(const Line& line, size_t head, const float* partial) const;

    /// Where the range that a piece has of a head begins in `partial`: from range to range one of the two grows.
    size_t range(int piece, size_t head) const { return (static_cast<size_t>(piece) + head) * range_size_; }

    int n_range_;                         ///< at most
    size_t range_size_;                   ///< [max_group][2 + head_dim]: maximum, sum, weighted V
    std::vector<std::atomic<int>> done_;  ///< [n_head_kv] blocks of entries
};

/// The probabilities themselves, for methods that evict while decoding: weights[h·weight_stride + j] is what query head
/// h gives to entry j of its cached head, 0 where the sliding window hides it; nothing is written beyond the head's
/// entries. V is not read. This thread's share of the query heads.
void cache_attention_weights(const CacheQuery& query, float* weights, size_t weight_stride, int ith, int nth);

}  // namespace fastkv::kernels
