#include "engine/layer_graph.h"

#include "model/hparams.h"

namespace fastkv {

namespace {

/// RoPE on x [head_dim, heads, rows] at positions [rows]; keys are cached rotated with their original position.
ggml_tensor* build_rope(Graph& graph, const LayerContext& layer, ggml_tensor* x, ggml_tensor* positions) {
    const HyperParams& hp = layer.hparams;
    // the last four arguments belong to YaRN, which read_hparams() refuses
    return ggml_rope_ext(graph.ctx(), x, positions, layer.weights.rope_freqs, hp.n_rot, rope_mode(hp),
                         /*n_ctx_orig=*/0, hp.rope_theta, hp.rope_freq_scale, /*ext_factor=*/0.0f,
                         /*attn_factor=*/1.0f, /*beta_fast=*/32.0f, /*beta_slow=*/1.0f);
}

/// [head_dim * heads, rows] -> [head_dim, heads, rows]
ggml_tensor* split_heads(Graph& graph, ggml_tensor* x, int head_dim) {
    return ggml_reshape_3d(graph.ctx(), x, head_dim, x->ne[0] / head_dim, x->ne[1]);
}

/// x [head_dim, heads, rows] into flat rows of `target`: kv_rows [cached heads · rows]. Each head is repeated for the
/// query heads of its group where those are cached.
ggml_tensor* write_rows(Graph& graph, ggml_tensor* x, ggml_tensor* kv_rows, ggml_tensor* target) {
    ggml_context* ctx = graph.ctx();
    const int64_t heads = x->ne[1], rows = x->ne[2], n_repeat = kv_rows->ne[0] / (heads * rows);
    if (n_repeat > 1) {
        x = ggml_repeat_4d(ctx, ggml_reshape_4d(ctx, x, x->ne[0], 1, heads, rows), x->ne[0], n_repeat, heads, rows);
    }
    x = ggml_reshape_2d(ctx, x, x->ne[0], n_repeat * heads * rows);
    return ggml_set_rows(ctx, flat_rows(ctx, target), x, kv_rows);
}

}  // namespace

ggml_tensor* build_linear(Graph& graph, const Linear& linear, ggml_tensor* x) {
    ggml_tensor* y = nullptr;
    if (const kernels::PackedWeights* w = linear.packed) {
        y = graph.cpu_node({w->n(), x->ne[1]}, {x}, [w](ggml_tensor* dst, int ith, int nth) {
            const ggml_tensor* src = dst->src[0];
            kernels::linear(*w, static_cast<const float*>(src->data), src->nb[1] / sizeof(float),
                            static_cast<float*>(dst->data), dst->nb[1] / sizeof(float), int(src->ne[1]), ith, nth);
        });
    } else {
        y = ggml_mul_mat(graph.ctx(), linear.weight, x);
    }
    return linear.bias ? ggml_add(graph.ctx(), y, linear.bias) : y;
}

ggml_tensor* build_norm(Graph& graph, const HyperParams& hparams, ggml_tensor* x, ggml_tensor* weight) {
    return ggml_mul(graph.ctx(), ggml_rms_norm(graph.ctx(), x, hparams.norm_eps), weight);
}

ggml_tensor* build_unrotated_queries(Graph& graph, const LayerContext& layer, ggml_tensor* x) {
    ggml_tensor* h = build_norm(graph, layer.hparams, x, layer.weights.attn_norm);
    return split_heads(graph, build_linear(graph, layer.linears.q, h), layer.hparams.head_dim);
}

ggml_tensor* build_queries(Graph& graph, const LayerContext& layer, ggml_tensor* x, ggml_tensor* positions) {
    return build_rope(graph, layer, build_unrotated_queries(graph, layer, x), positions);
}

KvTensors build_keys_values(Graph& graph, const LayerContext& layer, ggml_tensor* x, ggml_tensor* positions,
                            ggml_tensor* kv_rows, const KvTensors& kv) {
    ggml_tensor* h = build_norm(graph, layer.hparams, x, layer.weights.attn_norm);
    ggml_tensor* k = split_heads(graph, build_linear(graph, layer.linears.k, h), layer.hparams.head_dim);
    const KvTensors written = {write_rows(graph, build_rope(graph, layer, k, positions), kv_rows, kv.k), nullptr};
    if (!kv.v) return written;
    ggml_tensor* v = split_heads(graph, build_linear(graph, layer.linears.v, h), layer.hparams.head_dim);
    return {written.k, write_rows(graph, v, kv_rows, kv.v)};
}

ggml_tensor* build_turned_keys(Graph& graph, const LayerContext& layer, ggml_tensor* keys, ggml_tensor* shift,
                               ggml_tensor* kv_rows, ggml_tensor* k) {
    return write_rows(graph, build_rope(graph, layer, keys, shift), kv_rows, k);
}

ggml_tensor* build_block(Graph& graph, const LayerContext& layer, ggml_tensor* x, ggml_tensor* positions,
                         const Attend& attend) {
    ggml_context* ctx = graph.ctx();
    ggml_tensor* attention = attend(graph, build_queries(graph, layer, x, positions));
    x = ggml_add(ctx, x, build_linear(graph, layer.linears.o, attention));

    ggml_tensor* h = build_norm(graph, layer.hparams, x, layer.weights.ffn_norm);
    ggml_tensor* gate = build_linear(graph, layer.linears.gate, h);
    ggml_tensor* up = build_linear(graph, layer.linears.up, h);
    h = ggml_swiglu_split(ctx, gate, up);  // silu(gate) · up
    return ggml_add(ctx, x, build_linear(graph, layer.linears.down, h));
}

ggml_tensor* build_head(Graph& graph, const HyperParams& hparams, ggml_tensor* x, ggml_tensor* output_norm,
                        const Linear& output) {
    return build_linear(graph, output, build_norm(graph, hparams, x, output_norm));
}

}  // namespace fastkv
