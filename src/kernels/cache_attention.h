// Attention of one query row over a layer's cache, for decoding: K and V are read once for all the query heads of
// a key/value head. Threads take ranges of entries; a second pass merges their partial results.
#pragma once

#include <cstdint>

#include "kernels/prefill_attention.h"

namespace fastkv::kernels {

struct CacheQuery {
    const float* q = nullptr;  ///< [n_head][head_dim], rotated
    KvView k;                  ///< entries of each key/value head
    KvView v;
    const int32_t* position = nullptr;  ///< [n_head_kv][position_stride] original positions; read only with a window
    int position_stride = 0;
    int query_position = 0;
    int n_entry = 0;  ///< cached entries per head, the query's own included
    int n_head = 0;
    int n_head_kv = 0;
    int head_dim = 0;
    float scale = 0;
    int sliding_window = 0;  ///< 0: none
};

/// Floats that `partial` must hold: for each thread and head the running maximum, the sum, and the weighted V.
size_t cache_attention_partial_size(int n_head, int head_dim, int nth);

/// First pass: this thread's range of entries into its part of `partial` [nth][n_head][2 + head_dim].
void cache_attention_partial(const CacheQuery& query, float* partial, int ith, int nth);

/// Second pass, after all threads have finished the first: out [n_head][head_dim], this thread's share of heads.
void cache_attention_merge(const float* partial, int n_head, int head_dim, int n_partial, float* out, int ith, int nth);

}  // namespace fastkv::kernels
