#include "engine/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cache_attention.h"
#include "kernels/key_scores.h"

namespace fastkv {

namespace {

float attention_scale(const HyperParams& hparams) { return 1.0f / std::sqrt(float(hparams.head_dim)); }

const ggml_fp16_t masked = ggml_fp32_to_fp16(-std::numeric_limits<float>::infinity());
const ggml_fp16_t visible = ggml_fp32_to_fp16(0.0f);

/// The first `rows` rows of K or V.
ggml_tensor* first_rows(Graph& graph, ggml_tensor* kv, int64_t rows) {
    return ggml_view_3d(graph.ctx(), kv, kv->ne[0], rows, kv->ne[2], kv->nb[1], kv->nb[2], 0);
}

/// ggml's fused attention: q [head_dim, n_head, rows] over the first n_kv rows -> [head_dim * n_head, rows].
ggml_tensor* flash_attention(Graph& graph, const HyperParams& hparams, ggml_tensor* q, const KvTensors& kv,
                             int64_t n_kv, ggml_tensor* mask) {
    ggml_context* ctx = graph.ctx();
    const int64_t rows = q->ne[2];
    ggml_tensor* out = ggml_flash_attn_ext(ctx, ggml_permute(ctx, q, 0, 2, 1, 3), first_rows(graph, kv.k, n_kv),
                                           first_rows(graph, kv.v, n_kv), mask, attention_scale(hparams),
                                           /*max_bias=*/0.0f, /*logit_softcap=*/0.0f);
    return ggml_reshape_2d(ctx, out, int64_t(hparams.head_dim) * hparams.n_head, rows);
}

bool in_window(const HyperParams& hparams, int query_position, int key_position) {
    return hparams.sliding_window == 0 || query_position - key_position < hparams.sliding_window;
}

}  // namespace

PrefillAttention::PrefillAttention(const HyperParams& hparams, const KernelChoice& choice, int max_rows)
    : hparams_(hparams) {
    if (choice.prefill_attention) packed_.emplace(choice.gemm, hparams.head_dim, hparams.n_head_kv, max_rows);
}

void PrefillAttention::set_keys(const Device& device, ggml_gallocr_t allocator, const KvTensors& kv,
                                std::span<const int32_t> positions) {
    kv_ = kv;
    positions_ = positions;
    if (!packed_) return;
    Graph graph(device, allocator, 4);
    graph.output(graph.cpu_node({1}, {kv.k, kv.v}, [this](ggml_tensor*, int ith, int nth) {
        packed_->pack(kv_view(kv_.k), kv_view(kv_.v), int(positions_.size()), ith, nth);
    }));
    graph.run();
}

Attend PrefillAttention::of(std::span<const int32_t> key_rows) {
    return [this, key_rows](Graph& graph, ggml_tensor* q) {
        return packed_ ? by_kernel(graph, q, key_rows) : by_ggml(graph, q, key_rows);
    };
}

ggml_tensor* PrefillAttention::by_kernel(Graph& graph, ggml_tensor* q, std::span<const int32_t> key_rows) const {
    return graph.cpu_node({q->ne[0] * q->ne[1], q->ne[2]}, {q}, [this, key_rows](ggml_tensor* dst, int ith, int nth) {
        const kernels::PrefillQueries queries = {
            .q = static_cast<const float*>(dst->src[0]->data),
            .out = static_cast<float*>(dst->data),
            .key_row = key_rows.data(),
            .key_position = positions_.data(),
            .n_query = int(key_rows.size()),
            .n_head = hparams_.n_head,
            .scale = attention_scale(hparams_),
            .sliding_window = hparams_.sliding_window,
        };
        kernels::prefill_attention(*packed_, queries, ith, nth);
    });
}

ggml_tensor* PrefillAttention::by_ggml(Graph& graph, ggml_tensor* q, std::span<const int32_t> key_rows) {
    const int64_t n_kv = key_rows.back() + 1;  // what comes after the last query is masked for all
    mask_.assign(size_t(n_kv) * key_rows.size(), masked);
    for (size_t i = 0; i < key_rows.size(); ++i) {
        const int own = key_rows[i];
        for (int key = 0; key <= own; ++key) {
            if (in_window(hparams_, positions_[size_t(own)], positions_[size_t(key)])) {
                mask_[i * size_t(n_kv) + size_t(key)] = visible;
            }
        }
    }
    ggml_tensor* mask = graph.input(GGML_TYPE_F16, {n_kv, int64_t(key_rows.size())}, mask_.data());
    return flash_attention(graph, hparams_, q, kv_, n_kv, mask);
}

namespace {

kernels::KvRows kv_rows(const ggml_tensor* tensor) {
    const kernels::KvView view = kv_view(tensor);
    return {view.data, view.type, view.row_stride};
}

/// Where each cached head lies; a cache's tensors hold `capacity` rows of each, one head after the other.
void cache_heads(const LayerCache& cache, std::vector<kernels::CacheHead>& heads) {
    heads.resize(size_t(cache.n_head_kv()));
    for (int head = 0; head < cache.n_head_kv(); ++head) {
        heads[size_t(head)] = {int64_t(head) * cache.capacity(), cache.n_entry(), cache.positions(head).data()};
    }
}

}  // namespace

Attend cache_attention(const HyperParams& hparams, const KernelChoice& choice, const LayerCache& cache,
                       const KvTensors& written, int n_kv, ggml_tensor* mask) {
    if (!choice.cache_kernels) {
        return [&hparams, written, n_kv, mask](Graph& graph, ggml_tensor* q) {
            return flash_attention(graph, hparams, q, written, n_kv, mask);
        };
    }
    return [&hparams, &cache, written](Graph& graph, ggml_tensor* q) {
        const int n_threads = graph.device().n_threads;
        const int64_t size =
            int64_t(kernels::cache_attention_partial_size(hparams.n_head, hparams.head_dim, n_threads));
        // [n_threads][n_head][2 + head_dim]
        ggml_tensor* partial =
            graph.cpu_node({size}, {q, written.k, written.v}, [&hparams, &cache](ggml_tensor* dst, int ith, int nth) {
                static thread_local std::vector<kernels::CacheHead> heads;  // [n_head_kv]
                cache_heads(cache, heads);
                const kernels::CacheQuery query = {
                    .q = static_cast<const float*>(dst->src[0]->data),
                    .k = kv_rows(cache.tensors().k),
                    .v = kv_rows(cache.tensors().v),
                    .heads = heads.data(),
                    .query_position = cache.positions(0).back(),
                    .n_head = hparams.n_head,
                    .n_head_kv = hparams.n_head_kv,
                    .head_dim = hparams.head_dim,
                    .scale = attention_scale(hparams),
                    .sliding_window = hparams.sliding_window,
                };
                kernels::cache_attention_partial(query, static_cast<float*>(dst->data), ith, nth);
            });
        return graph.cpu_node(
            {int64_t(hparams.head_dim) * hparams.n_head, 1}, {partial}, [&hparams](ggml_tensor* dst, int ith, int nth) {
                kernels::cache_attention_merge(static_cast<const float*>(dst->src[0]->data), hparams.n_head,
                                               hparams.head_dim, nth, static_cast<float*>(dst->data), ith, nth);
            });
    };
}

int padded_entries(const LayerCache& cache) { return std::min((cache.n_entry() + 255) / 256 * 256, cache.capacity()); }

int cache_mask_heads(const HyperParams& hparams) { return hparams.sliding_window > 0 ? hparams.n_head : 1; }

void cache_mask(const HyperParams& hparams, const LayerCache& cache, int position, int n_kv,
                std::vector<ggml_fp16_t>& mask) {
    const int heads = cache_mask_heads(hparams);
    mask.assign(size_t(heads) * size_t(n_kv), masked);
    for (int head = 0; head < heads; ++head) {
        const auto positions = cache.positions(head / hparams.n_group());
        for (size_t entry = 0; entry < positions.size(); ++entry) {
            if (in_window(hparams, position, positions[entry])) mask[size_t(head) * size_t(n_kv) + entry] = visible;
        }
    }
}

namespace {

/// [n_head][n_rows - window] by the kernel.
ggml_tensor* window_scores_by_kernel(Graph& graph, const HyperParams& hparams, ggml_tensor* q, const KvTensors& kv,
                                     int n_rows, int window) {
    return graph.cpu_node({n_rows - window, hparams.n_head}, {q, kv.k},
                          [&hparams, n_rows, window](ggml_tensor* dst, int ith, int nth) {
                              const kernels::ScoreQueries queries = {
                                  .q = static_cast<const float*>(dst->src[0]->data),
                                  .k = kv_view(dst->src[1]),
                                  .n_rows = n_rows,
                                  .n_query = window,
                                  .n_col = n_rows - window,
                                  .n_head = hparams.n_head,
                                  .n_head_kv = hparams.n_head_kv,
                                  .head_dim = hparams.head_dim,
                                  .scale = attention_scale(hparams),
                              };
                              kernels::key_scores(queries, static_cast<float*>(dst->data), ith, nth);
                          });
}

/// The same by ggml's operators; `mask` [window, n_rows] hides the window's later keys from its earlier rows.
ggml_tensor* window_scores_by_ggml(Graph& graph, const HyperParams& hparams, ggml_tensor* q, const KvTensors& kv,
                                   int n_rows, int window, ggml_tensor* mask) {
    ggml_context* ctx = graph.ctx();
    ggml_tensor* q_by_head = ggml_permute(ctx, q, 0, 2, 1, 3);                       // [head_dim, window, n_head]
    ggml_tensor* s = ggml_mul_mat(ctx, first_rows(graph, kv.k, n_rows), q_by_head);  // [n_rows, window, n_head]
    ggml_tensor* p = ggml_soft_max_ext(ctx, s, mask, attention_scale(hparams), 0.0f);
    ggml_tensor* sums = ggml_sum_rows(ctx, ggml_cont(ctx, ggml_permute(ctx, p, 1, 0, 2, 3)));  // [1, n_rows, n_head]
    ggml_tensor* before_window = ggml_view_2d(ctx, sums, n_rows - window, hparams.n_head, sums->nb[2], 0);
    return ggml_cont(ctx, before_window);
}

}  // namespace

Scores window_scores(const Device& device, ggml_gallocr_t allocator, const LayerContext& layer,
                     const KernelChoice& choice, ggml_tensor* x_window, std::span<const int32_t> positions,
                     const KvTensors& kv, int n_rows) {
    const int window = int(positions.size());
    Graph graph(device, allocator, 32);
    ggml_tensor* pos = graph.input(GGML_TYPE_I32, {window}, positions.data());
    ggml_tensor* q = build_queries(graph, layer, x_window, pos);  // [head_dim, n_head, window]
    ggml_tensor* sums = nullptr;
    std::vector<float> mask;  // [window][n_rows]
    if (choice.cache_kernels) {
        sums = window_scores_by_kernel(graph, layer.hparams, q, kv, n_rows, window);
    } else {
        mask.assign(size_t(window) * size_t(n_rows), 0.0f);
        for (int i = 0; i < window; ++i) {
            for (int j = n_rows - window + i + 1; j < n_rows; ++j) {
                mask[size_t(i) * size_t(n_rows) + size_t(j)] = -std::numeric_limits<float>::infinity();
            }
        }
        ggml_tensor* mask_input = graph.input(GGML_TYPE_F32, {n_rows, window}, mask.data());
        sums = window_scores_by_ggml(graph, layer.hparams, q, kv, n_rows, window, mask_input);
    }
    graph.output(sums);
    graph.run();
    Scores scores{layer.hparams.n_head, n_rows - window, {}};
    scores.values.resize(size_t(scores.n_head) * size_t(scores.n_col));
    graph.read(sums, scores.values.data());
    return scores;
}

}  // namespace fastkv
