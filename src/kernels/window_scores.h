// How much the last queries of a prompt look at each of its tokens.
#pragma once

#include "kernels/prefill_attention.h"

namespace fastkv::kernels {

struct WindowQueries {
    const float* q = nullptr;  ///< [window][n_head][head_dim], rotated: the queries of the last `window` rows
    KvView k;                  ///< all rows of the layer
    int n_rows = 0;
    int window = 0;  ///< < n_rows
    int n_head = 0;
    int n_head_kv = 0;
    int head_dim = 0;
    float scale = 0;
};

/// sums[n_head][n_rows - window] = for each query head and each key before the window, the sum over the window's
/// rows of softmax(scale · q·Kᵀ), causal inside the window, softmax over all n_rows columns in float32 (paper,
/// eq. 1; the probability that falls on the window is discarded). This thread's share of the heads.
void window_scores(const WindowQueries& queries, float* sums, int ith, int nth);

}  // namespace fastkv::kernels
