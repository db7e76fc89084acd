#include "engine/expected_scores.h"

#include <algorithm>
#include <cmath>

#include "engine/qkv.h"
#include "kernels/vector_ops.h"
#include "methods/expected_attention.h"
#include "model/hparams.h"

namespace fastkv {

namespace {

/// Positions to come that the rotation is averaged over, as in the paper's experiments.
constexpr int n_future = 512;

/// Added to every probability before it is multiplied by the value's norm: as in a setting of the authors' evaluation.
/// Without it half of the facts are lost (docs/methods.md).
constexpr float epsilon = 0.01f;

/// Angle per position of each pair of dimensions: [n_rot / 2].
std::vector<double> rope_frequencies(const HyperParams& hp, const ggml_tensor* factors) {
    std::vector<float> divide_by(size_t(hp.n_rot / 2), 1.0f);
    if (factors) ggml_backend_tensor_get(factors, divide_by.data(), 0, divide_by.size() * sizeof(float));
    std::vector<double> frequencies;
    for (int i = 0; i < hp.n_rot / 2; ++i) {
        const double base = std::pow(double(hp.rope_theta), -2.0 * i / hp.n_rot);
        frequencies.push_back(base * hp.rope_freq_scale / divide_by[size_t(i)]);
    }
    return frequencies;
}

/// Does `work(head)` for all heads, on the device's threads where it has any that can be called.
template <class Work>
void for_heads(const ScoredLayer& at, int n_head, Work work) {
    if (!at.device.own_kernels) {
        for (int head = 0; head < n_head; ++head) work(head);
        return;
    }
    Graph graph(at.device, at.allocator, 4);
    graph.output(graph.cpu_node({1}, {at.kv.k}, [&](ggml_tensor*, kernels::Team& team) {
        for (int head = team.take(); head < n_head; head = team.take()) work(head);
    }));
    graph.run();
}

/// Moments of every query head's unrotated queries, the sinks' left out: [n_head].
std::vector<QueryMoments> query_moments(const ScoredLayer& at, int first_row) {
    const HyperParams& hp = at.layer.hparams;
    std::vector<QueryMoments> moments(size_t(hp.n_head), QueryMoments(hp.head_dim));
    std::vector<float> queries;  // [rows of a chunk][n_head][head_dim]
    const int chunk = prefill_chunk_rows(at.device);
    for (int first = first_row; first < at.n_rows(); first += chunk) {
        const int n = std::min(chunk, at.n_rows() - first);
        Graph graph(at.device, at.allocator, 32);
        ggml_tensor* x = ggml_view_2d(graph.ctx(), at.stream, at.stream->ne[0], n, at.stream->nb[1],
                                      size_t(first - at.first_stream_row) * at.stream->nb[1]);
        ggml_tensor* q = build_unrotated_queries(graph, at.layer, x);
        graph.output(q);
        graph.run();
        queries.resize(size_t(n) * size_t(hp.n_head) * size_t(hp.head_dim));
        graph.read(q, queries.data());
        const size_t stride = size_t(hp.n_head) * size_t(hp.head_dim);
        for_heads(at, hp.n_head, [&](int head) {
            moments[size_t(head)].add({queries.data() + size_t(head) * size_t(hp.head_dim), n, stride});
        });
    }
    return moments;
}

/// All rows of one head of K or V in float32, a piece at a time: `use(first_row, rows)`.
template <class Use>
void for_pieces(const ggml_tensor* kv, int head, int n_rows, Use use) {
    const int head_dim = int(kv->ne[0]), piece = 512;
    std::vector<std::byte> stored(size_t(piece) * kv->nb[1]);
    std::vector<float> rows(size_t(piece) * size_t(head_dim));  // [piece][head_dim]
    for (int first = 0; first < n_rows; first += piece) {
        const int n = std::min(piece, n_rows - first);
        ggml_backend_tensor_get(kv, stored.data(), size_t(head) * kv->nb[2] + size_t(first) * kv->nb[1],
                                size_t(n) * kv->nb[1]);
        for (int i = 0; i < n; ++i) {
            kernels::convert_kv_row(stored.data() + size_t(i) * kv->nb[1], kv_view(kv).type, head_dim,
                                    kernels::GemmType::f32, rows.data() + size_t(i) * size_t(head_dim), head_dim);
        }
        use(first, HeadRows{rows.data(), n, size_t(head_dim)});
    }
}

/// |v| of every row: [n_head_kv][n_rows].
std::vector<float> value_norms(const ScoredLayer& at) {
    const int n_head_kv = at.layer.hparams.n_head_kv, head_dim = at.layer.hparams.head_dim;
    std::vector<float> norms(size_t(n_head_kv) * size_t(at.n_rows()));
    for_heads(at, n_head_kv, [&](int head) {
        for_pieces(at.kv.v, head, at.n_rows(), [&](int first, const HeadRows& rows) {
            for (int i = 0; i < rows.n_row; ++i) {
                double squares = 0;
                for (const float x : rows.row(i, head_dim)) squares += double(x) * x;
                norms[size_t(head) * size_t(at.n_rows()) + size_t(first + i)] = float(std::sqrt(squares));
            }
        });
    });
    return norms;
}

}  // namespace

Scores expected_token_scores(const ScoredLayer& at, const ScorePlan& plan) {
    const HyperParams& hp = at.layer.hparams;
    const int n_rows = at.n_rows();
    const std::vector<QueryMoments> moments = query_moments(at, std::min(plan.sinks, n_rows - 1));
    const MeanRotation rotation =
        mean_rotation(rope_frequencies(hp, at.layer.weights.rope_freqs), at.positions.back() + 1, n_future,
                      rope_mode(hp) == GGML_ROPE_TYPE_NORMAL);
    Scores scores{hp.n_head, n_rows, {}};
    scores.values.resize(size_t(hp.n_head) * size_t(n_rows));
    for_heads(at, hp.n_head, [&](int head) {
        const QueryMoments& own = moments[size_t(head)];
        const ExpectedHead expected(own.mean(), own.covariance(), rotation);
        for_pieces(at.kv.k, head / hp.n_group(), n_rows, [&](int first, const HeadRows& keys) {
            expected.logits(keys, scores.row(head).subspan(size_t(first), size_t(keys.n_row)));
        });
    });
    expected_scores(scores, plan.sinks, value_norms(at), hp.n_group(), epsilon);

    Scores before_tail{hp.n_head, n_rows - plan.tail, {}};
    for (int head = 0; head < hp.n_head; ++head) {
        const auto row = scores.row(head).first(size_t(before_tail.n_col));
        before_tail.values.insert(before_tail.values.end(), row.begin(), row.end());
    }
    return before_tail;
}

}  // namespace fastkv
