// Attention of one query row over a layer's cache, for decoding: K and V are read once for all the query heads of
// a cached head. Threads take ranges of entries; a second pass merges their partial results.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kv_view.h"

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

/// Floats that `partial` must hold: for each thread and query head the running maximum, the sum, and the weighted V.
size_t cache_attention_partial_size(int n_head, int head_dim, int nth);

/// First pass: this thread's range of every cached head's entries into its part of
/// `partial` [nth][n_head][2 + head_dim].
void cache_attention_partial(const CacheQuery& query, float* partial, int ith, int nth);

/// Second pass, after all threads have finished the first: out [n_head][head_dim], this thread's share of heads.
void cache_attention_merge(const float* partial, int n_head, int head_dim, int n_partial, float* out, int ith, int nth);

/// The probabilities themselves, for methods that evict while decoding: weights[h·weight_stride + j] is what query head
/// h gives to entry j of its cached head, 0 where the sliding window hides it; nothing is written beyond the head's
/// entries. V is not read. This thread's share of the query heads.
void cache_attention_weights(const CacheQuery& query, float* weights, size_t weight_stride, int ith, int nth);

}  // namespace fastkv::kernels
