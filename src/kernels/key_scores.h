// How much the last queries of a prompt look at each of its tokens: what methods choose by.
#pragma once

#include "kernels/kv_view.h"

namespace fastkv::kernels {

struct ScoreQueries {
    const float* q = nullptr;  ///< [n_query][n_head][head_dim], rotated: the queries of the last n_query rows
    KvView k;                  ///< all rows of the layer
    int n_rows = 0;
    int n_query = 0;  ///< 1 .. n_rows
    int n_col = 0;    ///< the first n_col rows are scored, 1 .. n_rows
    int n_head = 0;   ///< query head h reads key/value head h / (n_head / n_head_kv)
    int n_head_kv = 0;
    int head_dim = 0;
    float scale = 0;
    bool softmax = true;       ///< false: raw q·k, neither scaled nor masked (GemFilter)
    int first_masked_row = 0;  ///< rows before it see all keys, rows from it on those up to their own. 0: causal
    float last_weight = 1;     ///< query i weighs 1 + (last_weight - 1)·i / (n_query - 1)
};

/// sums[n_head][n_col]: for each query head and column the weighted sum over the queries of softmax(scale · q·Kᵀ), in
/// float32. The softmax is over all keys that a row sees, also those that are not scored: their probability is
/// discarded (FastKV paper, eq. 1). This thread's share of the query heads.
void key_scores(const ScoreQueries& queries, float* sums, int ith, int nth);

/// mean[n_query][n_rows]: each query's probabilities, averaged over the query heads, 0 for keys that it does not see.
/// n_col, softmax and last_weight are not read. This thread's share of the queries.
void mean_attention(const ScoreQueries& queries, float* mean, int ith, int nth);

}  // namespace fastkv::kernels
