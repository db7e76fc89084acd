#include "engine/scores.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/expected_scores.h"
#include "engine/qkv.h"
#include "kernels/key_scores.h"

namespace fastkv {

namespace {

constexpr float hidden = -std::numeric_limits<float>::infinity();

/// Queries that are scored in one graph, rows [first, end) of the layer, over the keys of the first `n_key` rows.
struct Chunk {
    int first = 0;
    int end = 0;
    int n_key = 0;
    int n_col = 0;  // columns that are scored
    int n_query() const { return end - first; }
};

float scale_of(const HyperParams& hparams, const ScorePlan& plan) {
    return plan.kind == ScoreKind::product ? 1.0f : 1.0f / std::sqrt(float(hparams.head_dim));
}

/// From this row on, queries see keys up to their own only.
int first_masked_row(const ScorePlan& plan, int n_rows) {
    return plan.mask == ScoreMask::causal ? 0 : n_rows - plan.tail;
}

/// Rows that a graph takes at a time. ggml's operators hold scores of all heads for all of them. The kernel holds only
/// the queries, of which there are many where all of a prompt score; it takes the queries at the end of its keys, so
/// that a prompt can be cut where the mask is causal and all rows weigh the same.
int chunk_rows(const ScoredLayer& at, const ScorePlan& plan) {
    if (!at.choice.cache_kernels) {
        const int64_t row_floats = int64_t(at.n_rows()) * at.layer.hparams.n_head;
        return int(std::clamp<int64_t>((int64_t{16} << 20) / row_floats, 1, plan.n_query));
    }
    const bool can_be_cut = plan.mask == ScoreMask::causal && plan.last_weight == 1;
    return can_be_cut ? std::min(plan.n_query, 2048) : plan.n_query;
}

ggml_tensor* chunk_queries(Graph& graph, const ScoredLayer& at, const Chunk& chunk) {
    ggml_tensor* x = ggml_view_2d(graph.ctx(), at.stream, at.stream->ne[0], chunk.n_query(), at.stream->nb[1],
                                  size_t(chunk.first - at.first_stream_row) * at.stream->nb[1]);
    ggml_tensor* positions = graph.input(GGML_TYPE_I32, {chunk.n_query()}, at.positions.data() + chunk.first);
    ggml_tensor* q = build_queries(graph, at.layer, x, positions);  // [head_dim, n_head, n_query]
    return build_framed_queries(graph.ctx(), q, at.kv.frame);
}

/// What the kernel is told about a chunk, whose queries are the last of its keys.
kernels::ScoreQueries score_queries(const ScoredLayer& at, const ScorePlan& plan, const Chunk& chunk, const float* q) {
    const HyperParams& hp = at.layer.hparams;
    return {
        .q = q,
        .k = kv_view(at.kv.k),
        .n_rows = chunk.n_key,
        .n_query = chunk.n_query(),
        .n_col = chunk.n_col,
        .n_head = hp.n_head,
        .n_head_kv = int(at.kv.k->ne[2]),
        .head_dim = hp.head_dim,
        .scale = scale_of(hp, plan),
        .softmax = plan.kind == ScoreKind::softmax,
        .first_masked_row = first_masked_row(plan, at.n_rows()),
        .last_weight = float(plan.last_weight),
    };
}

/// The mask of a chunk for ggml's softmax: [n_query][n_key].
std::vector<float> chunk_mask(const ScoredLayer& at, const ScorePlan& plan, const Chunk& chunk) {
    std::vector<float> mask(size_t(chunk.n_query()) * size_t(chunk.n_key), 0.0f);
    for (int row = std::max(chunk.first, first_masked_row(plan, at.n_rows())); row < chunk.end; ++row) {
        float* line = mask.data() + size_t(row - chunk.first) * size_t(chunk.n_key);
        std::fill(line + std::min(row + 1, chunk.n_key), line + chunk.n_key, hidden);
    }
    return mask;
}

/// Attention probabilities, or raw products, by ggml's operators: [n_key, n_query, n_head].
ggml_tensor* probabilities_by_ggml(Graph& graph, const ScoredLayer& at, const ScorePlan& plan, const Chunk& chunk,
                                   const std::vector<float>& mask) {
    ggml_context* ctx = graph.ctx();
    ggml_tensor* q = ggml_permute(ctx, chunk_queries(graph, at, chunk), 0, 2, 1, 3);  // [head_dim, n_query, n_head]
    ggml_tensor* k =
        ggml_view_3d(ctx, at.kv.k, at.kv.k->ne[0], chunk.n_key, at.kv.k->ne[2], at.kv.k->nb[1], at.kv.k->nb[2], 0);
    ggml_tensor* scores = ggml_mul_mat(ctx, k, q);
    if (plan.kind == ScoreKind::product) return scores;
    ggml_tensor* mask_input = graph.input(GGML_TYPE_F32, {chunk.n_key, chunk.n_query()}, mask.data());
    return ggml_soft_max_ext(ctx, scores, mask_input, scale_of(at.layer.hparams, plan), /*max_bias=*/0.0f);
}

/// One chunk's sums over its queries: [n_head][n_col].
void score_chunk(const ScoredLayer& at, const ScorePlan& plan, const Chunk& chunk, std::vector<float>& sums) {
    const int n_head = at.layer.hparams.n_head;
    Graph graph(at.device, at.allocator, 48);
    ggml_tensor* node = nullptr;
    std::vector<float> mask;     // [n_query][n_key]
    std::vector<float> weights;  // [n_head][n_query]
    if (at.choice.cache_kernels) {
        node = graph.cpu_node(
            {chunk.n_col, n_head}, {chunk_queries(graph, at, chunk), at.kv.k}, [&](ggml_tensor* dst, int ith, int nth) {
                const auto* q = static_cast<const float*>(dst->src[0]->data);
                kernels::key_scores(score_queries(at, plan, chunk, q), static_cast<float*>(dst->data), ith, nth);
            });
    } else {
        mask = chunk_mask(at, plan, chunk);
        const int first_query = at.n_rows() - plan.n_query;
        for (int i = 0; i < n_head * chunk.n_query(); ++i) {
            weights.push_back(float(row_weight(plan, chunk.first - first_query + i % chunk.n_query())));
        }
        ggml_context* ctx = graph.ctx();
        ggml_tensor* p = probabilities_by_ggml(graph, at, plan, chunk, mask);
        ggml_tensor* by_key = ggml_cont(ctx, ggml_permute(ctx, p, 1, 0, 2, 3));  // [n_query, n_key, n_head]
        ggml_tensor* w = graph.input(GGML_TYPE_F32, {chunk.n_query(), 1, n_head}, weights.data());
        ggml_tensor* all = ggml_mul_mat(ctx, by_key, w);  // [n_key, 1, n_head]
        node = ggml_cont(ctx, ggml_view_2d(ctx, all, chunk.n_col, n_head, all->nb[2], 0));
    }
    graph.output(node);
    graph.run();
    sums.resize(size_t(chunk.n_col) * size_t(n_head));
    graph.read(node, sums.data());
}

}  // namespace

Scores score_tokens(const ScoredLayer& at, const ScorePlan& plan) {
    if (plan.kind == ScoreKind::expected) return expected_token_scores(at, plan);
    const int n_rows = at.n_rows();
    const int step = chunk_rows(at, plan);
    Scores scores{at.layer.hparams.n_head, n_rows - plan.tail, {}};
    scores.values.assign(size_t(scores.n_head) * size_t(scores.n_col), 0.0f);
    std::vector<float> sums;  // [n_head][n_col of the chunk]
    for (int first = n_rows - plan.n_query; first < n_rows; first += step) {
        const int end = std::min(first + step, n_rows);
        // what comes after a chunk's last query is hidden from all of its queries
        const int n_key = plan.mask == ScoreMask::causal && plan.kind == ScoreKind::softmax ? end : n_rows;
        const Chunk chunk{first, end, n_key, std::min(scores.n_col, n_key)};
        score_chunk(at, plan, chunk, sums);
        for (int head = 0; head < scores.n_head; ++head) {
            const auto row = scores.row(head);
            const float* add = sums.data() + size_t(head) * size_t(chunk.n_col);
            for (int col = 0; col < chunk.n_col; ++col) row[size_t(col)] += add[col];
        }
    }
    return scores;
}

PromptAttention prompt_attention(const ScoredLayer& at, int n_query) {
    const int n_rows = at.n_rows(), n_head = at.layer.hparams.n_head;
    const ScorePlan plan{.n_query = n_query};
    const int step = at.choice.cache_kernels ? n_query : chunk_rows(at, plan);
    PromptAttention attention{n_query, n_rows, {}};
    attention.mean.assign(size_t(n_query) * size_t(n_rows), 0.0f);
    for (int first = n_rows - n_query; first < n_rows; first += step) {
        const Chunk chunk{first, std::min(first + step, n_rows), n_rows, n_rows};
        float* mean = attention.mean.data() + size_t(first - (n_rows - n_query)) * size_t(n_rows);
        Graph graph(at.device, at.allocator, 48);
        if (at.choice.cache_kernels) {
            ggml_tensor* node = graph.cpu_node({n_rows, chunk.n_query()}, {chunk_queries(graph, at, chunk), at.kv.k},
                                               [&](ggml_tensor* dst, int ith, int nth) {
                                                   const auto* q = static_cast<const float*>(dst->src[0]->data);
                                                   kernels::mean_attention(score_queries(at, plan, chunk, q),
                                                                           static_cast<float*>(dst->data), ith, nth);
                                               });
            graph.output(node);
            graph.run();
            graph.read(node, mean);
            continue;
        }
        const std::vector<float> mask = chunk_mask(at, plan, chunk);
        ggml_tensor* p = probabilities_by_ggml(graph, at, plan, chunk, mask);
        graph.output(p);
        graph.run();
        const size_t n = size_t(chunk.n_query()) * size_t(n_rows);
        std::vector<float> by_head(n * size_t(n_head));  // [n_head][n_query][n_rows]
        graph.read(p, by_head.data());
        for (int head = 0; head < n_head; ++head) {
            for (size_t i = 0; i < n; ++i) mean[i] += by_head[size_t(head) * n + i] / float(n_head);
        }
    }
    return attention;
}

}  // namespace fastkv
