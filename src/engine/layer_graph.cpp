#include "engine/layer_graph.h"

#include "engine/linears.h"
#include "engine/qkv.h"

namespace fastkv {

namespace {

/// x + W·y: [n_in, rows] -> [n_embd, rows].
ggml_tensor* build_residual(Graph& graph, const Linear& linear, ggml_tensor* x, ggml_tensor* y) {
    if (by_row({&linear, 1}, y)) {
        const kernels::QuantizedMatrix matrix = *linear.row_matrix;
        return graph.cpu_node({matrix.n, x->ne[1]}, {x, y}, [matrix](ggml_tensor* dst, kernels::Team& team) {
            const kernels::QuantizedOutput output{matrix, rows_of(dst->src[0]), {floats(dst), size_t(matrix.n)}};
            kernels::quantized_linear({&output, 1}, {}, rows_of(dst->src[1]), int(dst->ne[1]), team);
        });
    }
    return ggml_add(graph.ctx(), x, build_quantised_linear(graph, linear, y));
}

/// x + down·(silu(gate·norm(x)) · (up·norm(x))): [n_embd, rows] -> [n_embd, rows].
ggml_tensor* build_mlp(Graph& graph, const LayerContext& layer, ggml_tensor* x) {
    const LayerLinears& l = layer.linears;
    const Norm norm{layer.weights.ffn_norm, layer.hparams.norm_eps};
    const Linear linears[] = {l.gate, l.up};
    if (by_row(linears, x)) {
        const kernels::QuantizedGate gated{norm.of_kernels(), *l.gate.row_matrix, *l.up.row_matrix};
        const int64_t n_ff = gated.gate.n;
        ggml_tensor* hidden = graph.cpu_node({n_ff, x->ne[1]}, {x}, [gated](ggml_tensor* dst, kernels::Team& team) {
            const kernels::Rows y{floats(dst), size_t(dst->ne[0])};
            kernels::quantized_gate(gated, rows_of(dst->src[0]), y, int(dst->ne[1]), team);
        });
        return build_residual(graph, l.down, x, hidden);
    }
    ggml_tensor* h = build_norm(graph, norm, x);
    ggml_tensor* gate = build_quantised_linear(graph, l.gate, h);
    ggml_tensor* up = build_quantised_linear(graph, l.up, h);
    return build_residual(graph, l.down, x, ggml_swiglu_split(graph.ctx(), gate, up));  // silu(gate) · up
}

/// The end of a layer whose weights are packed, for whatever the attention finds.
kernels::LayerEnd packed_end(const LayerContext& layer) {
    const LayerLinears& l = layer.linears;
    const kernels::RmsNorm norm = Norm{layer.weights.ffn_norm, layer.hparams.norm_eps}.of_kernels();
    return {l.o.packed, {}, norm, l.gate.packed, l.up.packed, l.down.packed};
}

}  // namespace

ggml_tensor* build_layer_end(Graph& graph, const LayerContext& layer, ggml_tensor* x, ggml_tensor* attention) {
    const LayerLinears& l = layer.linears;
    const Linear linears[] = {l.o, l.gate, l.up, l.down};
    if (!all_packed(linears)) return build_mlp(graph, layer, build_residual(graph, l.o, x, attention));
    return graph.cpu_node_over(x, {attention}, [end = packed_end(layer)](ggml_tensor* dst, kernels::Team& team) {
        kernels::LayerEnd own = end;
        own.a = rows_of(dst->src[1]);
        kernels::end_layer(own, {floats(dst), size_t(dst->ne[0])}, int(dst->ne[1]), team);
    });
}

namespace {

/// Whether there are so many rows that every thread can take some through all of the layer. For fewer the threads share
/// out heads and slabs, too.
bool can_stay_with_thread(const Graph& graph, const LayerContext& layer, const ggml_tensor* x, const Attend& attend) {
    constexpr int64_t rows_of_thread = 128;
    const LayerLinears& l = layer.linears;
    const Linear linears[] = {l.q, l.o, l.gate, l.up, l.down};
    return attend.rows && all_packed(linears) && x->ne[1] >= rows_of_thread * graph.device().n_threads;
}

/// The layer for rows that stay with the thread that takes them, from their queries to the end: what a core hands to
/// another comes from the third cache, at the cost of computing it.
ggml_tensor* build_rows_block(Graph& graph, const LayerContext& layer, ggml_tensor* x, ggml_tensor* positions,
                              const Attend& attend) {
    const auto compute = [q = layer.linears.q, norm = attention_norm(layer).of_kernels(), rope = rope_of(layer),
                          end = packed_end(layer), attend = attend.rows,
                          head_dim = layer.hparams.head_dim](ggml_tensor* dst, kernels::Team& team) {
        const ggml_tensor* at = dst->src[1];
        const kernels::Rows rows{floats(dst), size_t(dst->ne[0])};
        const auto go_on = [&](int first, int n, std::span<const kernels::Rows> y) {
            const kernels::Rows heads = y[0];  // [n][n_head][head_dim]: queries, then what they find
            rotate_rows(rope, at, first, n, heads, head_dim);
            attend(first, n, heads.data);
            kernels::LayerEnd own = end;
            own.a = {heads.data, heads.stride};
            kernels::end_layer(own, {rows.data + size_t(first) * rows.stride, rows.stride}, n);
        };
        kernels::linear(outputs_of({&q, 1}, nullptr, 0), norm, rows_of(dst), int(dst->ne[1]), team, go_on);
    };
    return graph.cpu_node_over(x, {positions}, compute);
}

}  // namespace

ggml_tensor* build_block(Graph& graph, const LayerContext& layer, ggml_tensor* x, ggml_tensor* positions,
                         const Attend& attend) {
    if (can_stay_with_thread(graph, layer, x, attend)) return build_rows_block(graph, layer, x, positions, attend);
    return build_layer_end(graph, layer, x, attend.nodes(graph, build_queries(graph, layer, x, positions)));
}

ggml_tensor* build_block_in_place(Graph& graph, const LayerContext& layer, ggml_tensor* x, ggml_tensor* positions,
                                  const Attend& attend) {
    ggml_tensor* y = build_block(graph, layer, x, positions, attend);
    const bool is_over = y->view_src && y->view_src == x->view_src && y->view_offs == x->view_offs;
    return is_over ? y : ggml_cpy(graph.ctx(), y, x);
}

ggml_tensor* build_head(Graph& graph, const HyperParams& hparams, ggml_tensor* x, ggml_tensor* output_norm,
                        const Linear& output) {
    return build_linears(graph, {&output, 1}, {output_norm, hparams.norm_eps}, x).front();
}

}  // namespace fastkv
