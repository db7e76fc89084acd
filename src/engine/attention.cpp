#include "engine/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include "kernels/cache_attention.h"

namespace fastkv {

namespace {

float attention_scale(const HyperParams& hparams) { return 1.0f / std::sqrt(float(hparams.head_dim)); }

const ggml_fp16_t masked = ggml_fp32_to_fp16(-std::numeric_limits<float>::infinity());
const ggml_fp16_t visible = ggml_fp32_to_fp16(0.0f);

/// The first `rows` rows of K or V.
ggml_tensor* first_rows(Graph& graph, ggml_tensor* kv, int64_t rows) {
    return ggml_view_3d(graph.ctx(), kv, kv->ne[0], rows, kv->ne[2], kv->nb[1], kv->nb[2], 0);
}

/// ggml's fused attention: q [head_dim, rows, n_head] over k and v [head_dim, n_kv, heads] -> [head_dim * n_head,
/// rows].
ggml_tensor* flash_attention(Graph& graph, const HyperParams& hparams, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v,
                             ggml_tensor* mask) {
    ggml_tensor* out = ggml_flash_attn_ext(graph.ctx(), q, k, v, mask, attention_scale(hparams), /*max_bias=*/0.0f,
                                           /*logit_softcap=*/0.0f);
    return ggml_reshape_2d(graph.ctx(), out, q->ne[0] * q->ne[2], q->ne[1]);
}

bool in_window(const HyperParams& hparams, int query_position, int key_position) {
    return hparams.sliding_window == 0 || query_position - key_position < hparams.sliding_window;
}

}  // namespace

PrefillAttention::PrefillAttention(const HyperParams& hparams, const KernelChoice& choice, int n_head, int n_head_kv,
                                   int max_rows)
    : hparams_(hparams), n_head_(n_head) {
    if (choice.prefill_attention) packed_.emplace(choice.gemm, hparams.head_dim, n_head_kv, max_rows);
}

void PrefillAttention::set_keys(const Device& device, ggml_gallocr_t allocator, const KvTensors& kv,
                                std::span<const int32_t> positions, bool over) {
    kv_ = kv;
    positions_ = positions;
    if (!packed_) return;
    packed_->set_rows(kv_view(kv.k), kv_view(kv.v), int(positions.size()), over);
    Graph graph(device, allocator, 4);
    graph.output(graph.cpu_node({1}, {kv.k, kv.v}, [this](ggml_tensor*, kernels::Team& team) { packed_->pack(team); }));
    graph.run();
}

Attend PrefillAttention::of(std::span<const int32_t> key_rows) {
    Attend attend;
    attend.nodes = [this, key_rows](Graph& graph, ggml_tensor* q) {
        q = build_framed_queries(graph.ctx(), q, kv_.frame);
        return packed_ ? by_kernel(graph, q, key_rows) : by_ggml(graph, q, key_rows);
    };
    if (packed_ && !kv_.frame) {
        attend.rows = [this, key_rows](int first, int n, float* heads) {
            kernels::prefill_attention(*packed_, queries(heads, key_rows.subspan(size_t(first), size_t(n))));
        };
    }
    return attend;
}

/// The attention of rows whose queries are `heads`, over these.
kernels::PrefillQueries PrefillAttention::queries(float* heads, std::span<const int32_t> key_rows) const {
    return {
        .q = heads,
        .out = heads,
        .key_row = key_rows.data(),
        .key_position = positions_.data(),
        .n_query = int(key_rows.size()),
        .n_head = n_head_,
        .scale = attention_scale(hparams_),
        .sliding_window = hparams_.sliding_window,
    };
}

ggml_tensor* PrefillAttention::by_kernel(Graph& graph, ggml_tensor* q, std::span<const int32_t> key_rows) const {
    ggml_tensor* out = graph.cpu_node_over(q, {}, [this, key_rows](ggml_tensor* dst, kernels::Team& team) {
        kernels::prefill_attention(*packed_, queries(static_cast<float*>(dst->data), key_rows), team);
    });
    return ggml_reshape_2d(graph.ctx(), out, q->ne[0] * q->ne[1], q->ne[2]);
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
    return flash_attention(graph, hparams_, ggml_permute(graph.ctx(), q, 0, 2, 1, 3), first_rows(graph, kv_.k, n_kv),
                           first_rows(graph, kv_.v, n_kv), mask);
}

bool update_groups(const HyperParams& hparams, const LayerCache& cache, int position, std::vector<CacheGroup>& groups) {
    const bool together = cache.is_even() && hparams.sliding_window == 0;
    const size_t n_group = together ? 1 : size_t(cache.n_head());
    bool changed = groups.size() != n_group;
    groups.resize(n_group);
    for (size_t i = 0; i < n_group; ++i) {
        CacheGroup& group = groups[i];
        group.first_head = int(i);
        group.n_head = together ? cache.n_head() : 1;
        const auto places = cache.places(group.first_head);
        const int n_kv = std::min((int(places.size()) + 255) / 256 * 256, cache.capacity(group.first_head));
        changed = changed || n_kv != group.n_kv;
        group.n_kv = n_kv;
        group.mask.assign(size_t(n_kv), masked);
        for (size_t entry = 0; entry < places.size(); ++entry) {
            if (in_window(hparams, position, places[entry])) group.mask[entry] = visible;
        }
    }
    return changed;
}

namespace {

/// The cache's part of one group: [head_dim, n_kv, heads of the group].
ggml_tensor* group_rows(Graph& graph, const LayerCache& cache, ggml_tensor* kv, const CacheGroup& group) {
    const size_t head_stride = size_t(cache.capacity(group.first_head)) * kv->nb[1];
    return ggml_view_3d(graph.ctx(), kv, kv->ne[0], group.n_kv, group.n_head, kv->nb[1], head_stride,
                        size_t(cache.row(group.first_head, 0)) * kv->nb[1]);
}

/// One row's attention by ggml's operators, group after group: q [head_dim, n_head, 1] -> [head_dim * n_head, 1].
ggml_tensor* cache_attention_by_ggml(Graph& graph, const CacheQuestion& question, ggml_tensor* q) {
    const auto& [hparams, choice, cache, written, position, groups, weights] = question;
    ggml_context* ctx = graph.ctx();
    const int n_query = hparams.n_head / cache.n_head();  // query heads of a cached head
    ggml_tensor* out = nullptr;
    for (const CacheGroup& group : groups) {
        ggml_tensor* mask = graph.input(GGML_TYPE_F16, {group.n_kv, 1}, group.mask.data());
        ggml_tensor* k = group_rows(graph, cache, written.k, group);
        ggml_tensor* v = group_rows(graph, cache, written.v, group);
        ggml_tensor* group_q = ggml_view_3d(ctx, q, q->ne[0], 1, int64_t(n_query) * group.n_head, q->nb[2], q->nb[1],
                                            size_t(group.first_head * n_query) * q->nb[1]);
        ggml_tensor* part = flash_attention(graph, hparams, group_q, k, v, mask);
        out = out ? ggml_concat(ctx, out, part, 0) : part;
        if (weights) {  // evictions that read them leave all heads the same length
            ggml_tensor* scores = ggml_mul_mat(ctx, k, group_q);  // [n_kv, 1, query heads of the group]
            ggml_tensor* p = ggml_soft_max_ext(ctx, scores, mask, attention_scale(hparams), /*max_bias=*/0.0f);
            p = ggml_reshape_2d(ctx, p, group.n_kv, int64_t(n_query) * group.n_head);
            *weights = *weights ? ggml_concat(ctx, *weights, p, 1) : p;
        }
    }
    return out;
}

/// Row `row` of the queries q [head_dim, n_head, rows].
kernels::CacheQuery cache_query(const CacheQuestion& question, const ggml_tensor* q, size_t row) {
    const KvTensors& kv = question.cache.tensors();
    return {
        .q = reinterpret_cast<const float*>(static_cast<const char*>(q->data) + row * q->nb[2]),
        .k = {kv.k->data, kv_view(kv.k).type, kv.k->nb[1]},
        .v = {kv.v->data, kv_view(kv.v).type, kv.v->nb[1]},
        .k_scale = kv.frame ? static_cast<const float*>(kv.frame.scale->data) : nullptr,
        .heads = question.cache.heads(),
        .query_position = question.position,
        .n_head = question.hparams.n_head,
        .n_head_kv = question.cache.n_head(),
        .head_dim = question.hparams.head_dim,
        .scale = attention_scale(question.hparams),
        .sliding_window = question.hparams.sliding_window,
    };
}

/// The entries that the rows ask for are written by nodes before these: their order in the graph is enough.
ggml_tensor* cache_attention_by_kernel(Graph& graph, const std::vector<CacheQuestion>& questions, ggml_tensor* q) {
    const HyperParams& hparams = questions[0].hparams;
    int n_head_kv = 0, max_group = 1;
    for (size_t row = 0; row < questions.size(); ++row) {
        const CacheQuestion& question = questions[row];
        n_head_kv += question.cache.n_head();
        max_group = std::max(max_group, hparams.n_head / question.cache.n_head());
        if (!question.weights) continue;
        const int length = weight_row_length(question.choice, question.cache);
        *question.weights =
            graph.cpu_node({length, hparams.n_head}, {q}, [question, row, length](ggml_tensor* dst, int ith, int nth) {
                kernels::cache_attention_weights(cache_query(question, dst->src[0], row),
                                                 static_cast<float*>(dst->data), size_t(length), ith, nth);
            });
    }
    const auto attention = std::make_shared<kernels::CacheAttention>(int(questions.size()), n_head_kv, max_group,
                                                                     hparams.head_dim, graph.device().n_threads);
    const int64_t n_out = int64_t(hparams.head_dim) * hparams.n_head, n_row = int64_t(questions.size());
    ggml_tensor* all =
        graph.cpu_node({n_out * n_row + int64_t(attention->partial_size())}, {q},
                       [questions, attention, n_out](ggml_tensor* dst, kernels::Team& team) {
                           std::vector<kernels::CacheQuery> queries;
                           for (size_t row = 0; row < questions.size(); ++row) {
                               queries.push_back(cache_query(questions[row], dst->src[0], row));
                           }
                           auto* out = static_cast<float*>(dst->data);
                           attention->attend(queries, out, out + n_out * int64_t(questions.size()), team);
                       });
    return ggml_view_2d(graph.ctx(), all, n_out, n_row, size_t(n_out) * sizeof(float), 0);
}

}  // namespace

int weight_row_length(const KernelChoice& choice, const LayerCache& cache) {
    if (choice.cache_kernels) return cache.capacity(0);
    return std::min((cache.n_entry(0) + 255) / 256 * 256, cache.capacity(0));
}

ggml_tensor* build_cache_attention(Graph& graph, const std::vector<CacheQuestion>& questions, ggml_tensor* q) {
    if (questions[0].choice.cache_kernels) return cache_attention_by_kernel(graph, questions, q);
    ggml_tensor* out = nullptr;
    for (size_t row = 0; row < questions.size(); ++row) {
        ggml_tensor* own = ggml_view_3d(graph.ctx(), q, q->ne[0], q->ne[1], 1, q->nb[1], q->nb[2], row * q->nb[2]);
        own = build_framed_queries(graph.ctx(), own, questions[row].cache.tensors().frame);
        ggml_tensor* part = cache_attention_by_ggml(graph, questions[row], own);
        out = out ? ggml_concat(graph.ctx(), out, part, 1) : part;
    }
    return out;
}

}  // namespace fastkv
