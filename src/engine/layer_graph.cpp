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

}  // namespace

ggml_tensor* build_layer_end(Graph& graph, const LayerContext& layer, ggml_tensor* x, ggml_tensor* attention) {
    const LayerLinears& l = layer.linears;
    const Linear linears[] = {l.o, l.gate, l.up, l.down};
    if (!all_packed(linears)) return build_mlp(graph, layer, build_residual(graph, l.o, x, attention));
    const kernels::RmsNorm norm = Norm{layer.weights.ffn_norm, layer.hparams.norm_eps}.of_kernels();
    return graph.cpu_node_over(x, {attention}, [l, norm](ggml_tensor* dst, kernels::Team& team) {
        const kernels::LayerEnd end{l.o.packed, rows_of(dst->src[1]), norm, l.gate.packed, l.up.packed, l.down.packed};
        kernels::end_layer(end, {floats(dst), size_t(dst->ne[0])}, int(dst->ne[1]), team);
    });
}

ggml_tensor* build_block(Graph& graph, const LayerContext& layer, ggml_tensor* x, ggml_tensor* positions,
                         const Attend& attend) {
    ggml_tensor* attention = attend(graph, build_queries(graph, layer, x, positions));
    return build_layer_end(graph, layer, x, attention);
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
