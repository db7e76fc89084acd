#include "engine/layer_graph.h"

#include <algorithm>
#include <numeric>
#include <span>
#include <vector>

#include "ggml-cpu.h"
#include "kernels/rope.h"
#include "kernels/vector_ops.h"
#include "model/hparams.h"

namespace fastkv {

namespace {

float* floats(const ggml_tensor* tensor) { return static_cast<float*>(tensor->data); }

/// [n_out], or none.
const float* bias_of(const Linear& linear) { return linear.bias ? floats(linear.bias) : nullptr; }

kernels::Rope rope_of(const LayerContext& layer) {
    const HyperParams& hp = layer.hparams;
    const ggml_tensor* factors = layer.weights.rope_freqs;
    return {hp.n_rot, hp.rope_theta, hp.rope_freq_scale, factors ? floats(factors) : nullptr,
            rope_mode(hp) == GGML_ROPE_TYPE_NEOX};
}

/// RoPE on x [head_dim, heads, rows] at positions [rows], over x where the kernel does it; keys are cached rotated with
/// their original position.
ggml_tensor* build_rope(Graph& graph, const LayerContext& layer, ggml_tensor* x, ggml_tensor* positions) {
    if (graph.device().own_kernels) {
        return graph.cpu_node_over(x, {positions}, [rope = rope_of(layer)](ggml_tensor* dst, kernels::Team& team) {
            kernels::rotate(rope, static_cast<const int32_t*>(dst->src[1]->data), floats(dst), int(dst->ne[2]),
                            int(dst->ne[1]), int(dst->ne[0]), team);
        });
    }
    const HyperParams& hp = layer.hparams;
    // the last four arguments belong to YaRN, which read_hparams() refuses
    return ggml_rope_ext(graph.ctx(), x, positions, layer.weights.rope_freqs, hp.n_rot, rope_mode(hp),
                         /*n_ctx_orig=*/0, hp.rope_theta, hp.rope_freq_scale, /*ext_factor=*/0.0f,
                         /*attn_factor=*/1.0f, /*beta_fast=*/32.0f, /*beta_slow=*/1.0f);
}

/// The rows of a matrix of float32: [values, rows].
kernels::ConstRows rows_of(const ggml_tensor* x) { return {floats(x), x->nb[1] / sizeof(float)}; }

/// What a row goes through before it is multiplied: a norm's weight [n_in], or nothing.
struct Norm {
    const ggml_tensor* weight = nullptr;
    float eps = 0;

    kernels::RmsNorm of_kernels() const { return {weight ? floats(weight) : nullptr, eps}; }
};

/// x / sqrt(mean(x²) + eps) · weight, row by row: [n_embd, rows] -> [n_embd, rows].
ggml_tensor* build_norm(Graph& graph, float eps, ggml_tensor* x, ggml_tensor* weight) {
    return ggml_mul(graph.ctx(), ggml_rms_norm(graph.ctx(), x, eps), weight);
}

/// y = W·x + b by the weights as the file has them: [n_in, rows] -> [n_out, rows].
ggml_tensor* build_quantised_linear(Graph& graph, const Linear& linear, ggml_tensor* x) {
    ggml_tensor* y = ggml_mul_mat(graph.ctx(), linear.weight, x);
    return linear.bias ? ggml_add(graph.ctx(), y, linear.bias) : y;
}

bool all_packed(std::span<const Linear> linears) {
    return std::all_of(linears.begin(), linears.end(), [](const Linear& linear) { return linear.packed; });
}

int64_t total(std::span<const int64_t> sizes) { return std::accumulate(sizes.begin(), sizes.end(), int64_t{0}); }

/// What linear layers of these sizes (n_out) have left in `all`, one behind the other: [n_out, rows] each.
std::vector<ggml_tensor*> split_outputs(Graph& graph, ggml_tensor* all, std::span<const int64_t> sizes, int64_t n_row) {
    std::vector<ggml_tensor*> parts;
    size_t offset = 0;
    for (const int64_t n : sizes) {
        parts.push_back(ggml_view_2d(graph.ctx(), all, n, n_row, size_t(n) * sizeof(float), offset));
        offset += size_t(n * n_row) * sizeof(float);
    }
    return parts;
}

/// Linear layers as the kernels take them, with outputs [n_row][n_out] one behind the other from y on, or without y
/// none that stay.
std::vector<kernels::LinearOutput> outputs_of(std::span<const Linear> linears, float* y, int64_t n_row) {
    std::vector<kernels::LinearOutput> outputs;
    for (const Linear& linear : linears) {
        const auto n = size_t(linear.packed->n());
        outputs.push_back({linear.packed, bias_of(linear), y ? kernels::Rows{y, n} : kernels::Rows{}});
        if (y) y += n * size_t(n_row);
    }
    return outputs;
}

/// Rotates `n` rows of heads [n_head][head_dim], the first of which is row `first` of positions [rows].
void rotate_rows(const kernels::Rope& rope, const ggml_tensor* positions, int first, int n, kernels::Rows rows,
                 int head_dim) {
    kernels::rotate(rope, static_cast<const int32_t*>(positions->data) + first, rows.data, n,
                    int(rows.stride) / head_dim, head_dim);
}

/// Whose heads are rotated, and by what.
struct Rotation {
    kernels::Rope rope;
    int head_dim = 0;
    ggml_tensor* positions = nullptr;  // [rows], or none: nothing is rotated
};

/// The linear layers of the normalised rows x [n_in, rows] by one node, which normalises once and rotates what the
/// first gives: [n_out, rows] each, one behind the other.
std::vector<ggml_tensor*> build_packed_linears(Graph& graph, std::span<const Linear> linears, const Norm& norm,
                                               ggml_tensor* x, const Rotation& rotation = {}) {
    const std::vector<Linear> own(linears.begin(), linears.end());
    std::vector<int64_t> sizes;
    for (const Linear& linear : own) sizes.push_back(linear.packed->n());
    std::vector<ggml_tensor*> args = {x};
    if (rotation.positions) args.push_back(rotation.positions);
    const auto compute = [own, norm, rope = rotation.rope, head_dim = rotation.head_dim](ggml_tensor* dst,
                                                                                         kernels::Team& team) {
        const ggml_tensor *src = dst->src[0], *positions = dst->src[1];
        kernels::RowsDone rotate;
        if (positions) {
            rotate = [&](int first, int n, std::span<const kernels::Rows> y) {
                rotate_rows(rope, positions, first, n, y[0], head_dim);
            };
        }
        kernels::linear(outputs_of(own, floats(dst), src->ne[1]), norm.of_kernels(), rows_of(src), int(src->ne[1]),
                        team, rotate);
    };
    return split_outputs(graph, graph.cpu_node({total(sizes) * x->ne[1]}, args, compute), sizes, x->ne[1]);
}

/// Whether fastkv multiplies the rows x by the weights as the file has them: a few rows, by types that it knows.
bool by_row(std::span<const Linear> linears, const ggml_tensor* x) {
    return x->ne[1] <= kernels::max_quantized_rows &&
           std::all_of(linears.begin(), linears.end(),
                       [](const Linear& linear) { return linear.row_matrix && !linear.packed; });
}

/// Linear layers of a few rows as the kernels take them, with outputs [n_row][n_out] one behind the other from y on.
std::vector<kernels::QuantizedOutput> row_outputs_of(std::span<const Linear> linears, float* y, int64_t n_row) {
    std::vector<kernels::QuantizedOutput> outputs;
    for (const Linear& linear : linears) {
        const auto n = size_t(linear.row_matrix->n);
        outputs.push_back({*linear.row_matrix, {bias_of(linear), 0}, {y, n}});
        y += n * size_t(n_row);
    }
    return outputs;
}

std::vector<int64_t> row_sizes_of(std::span<const Linear> linears) {
    std::vector<int64_t> sizes;
    for (const Linear& linear : linears) sizes.push_back(linear.row_matrix->n);
    return sizes;
}

/// The linear layers of the few normalised rows x [n_in, rows] by one node: [n_out, rows] each, one behind the other.
std::vector<ggml_tensor*> build_row_linears(Graph& graph, std::span<const Linear> linears, const Norm& norm,
                                            ggml_tensor* x) {
    const std::vector<Linear> own(linears.begin(), linears.end());
    const std::vector<int64_t> sizes = row_sizes_of(own);
    const auto compute = [own, norm](ggml_tensor* dst, kernels::Team& team) {
        const ggml_tensor* src = dst->src[0];
        kernels::quantized_linear(row_outputs_of(own, floats(dst), src->ne[1]), norm.of_kernels(), rows_of(src),
                                  int(src->ne[1]), team);
    };
    return split_outputs(graph, graph.cpu_node({total(sizes) * x->ne[1]}, {x}, compute), sizes, x->ne[1]);
}

/// W·norm(x) + b for each of the linear layers.
std::vector<ggml_tensor*> build_projections(Graph& graph, const LayerContext& layer, std::span<const Linear> linears,
                                            ggml_tensor* x) {
    const float eps = layer.hparams.norm_eps;
    const Norm norm{layer.weights.attn_norm, eps};
    if (all_packed(linears)) return build_packed_linears(graph, linears, norm, x);
    if (by_row(linears, x)) return build_row_linears(graph, linears, norm, x);
    ggml_tensor* h = build_norm(graph, eps, x, layer.weights.attn_norm);
    std::vector<ggml_tensor*> parts;
    for (const Linear& linear : linears) {
        parts.push_back(linear.packed ? build_packed_linears(graph, {&linear, 1}, {}, h).front()
                                      : build_quantised_linear(graph, linear, h));
    }
    return parts;
}

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
    const float eps = layer.hparams.norm_eps;
    const Linear linears[] = {l.gate, l.up};
    if (by_row(linears, x)) {
        const kernels::QuantizedGate gated{{floats(layer.weights.ffn_norm), eps}, *l.gate.row_matrix, *l.up.row_matrix};
        const int64_t n_ff = gated.gate.n;
        ggml_tensor* hidden = graph.cpu_node({n_ff, x->ne[1]}, {x}, [gated](ggml_tensor* dst, kernels::Team& team) {
            const kernels::Rows y{floats(dst), size_t(dst->ne[0])};
            kernels::quantized_gate(gated, rows_of(dst->src[0]), y, int(dst->ne[1]), team);
        });
        return build_residual(graph, l.down, x, hidden);
    }
    ggml_tensor* h = build_norm(graph, eps, x, layer.weights.ffn_norm);
    ggml_tensor* gate = build_quantised_linear(graph, l.gate, h);
    ggml_tensor* up = build_quantised_linear(graph, l.up, h);
    return build_residual(graph, l.down, x, ggml_swiglu_split(graph.ctx(), gate, up));  // silu(gate) · up
}

/// [head_dim * heads, rows] -> [head_dim, heads, rows]
ggml_tensor* split_heads(Graph& graph, ggml_tensor* x, int head_dim) {
    return ggml_reshape_3d(graph.ctx(), x, head_dim, x->ne[0] / head_dim, x->ne[1]);
}

/// The heads that the projections of x give, those of the first rotated: [head_dim, heads, rows] each.
std::vector<ggml_tensor*> build_heads(Graph& graph, const LayerContext& layer, std::span<const Linear> linears,
                                      ggml_tensor* x, ggml_tensor* positions) {
    const HyperParams& hp = layer.hparams;
    const bool packed = all_packed(linears);
    std::vector<ggml_tensor*> heads = packed
                                          ? build_packed_linears(graph, linears, {layer.weights.attn_norm, hp.norm_eps},
                                                                 x, {rope_of(layer), hp.head_dim, positions})
                                          : build_projections(graph, layer, linears, x);
    for (ggml_tensor*& part : heads) part = split_heads(graph, part, hp.head_dim);
    if (!packed) heads[0] = build_rope(graph, layer, heads[0], positions);
    return heads;
}

/// Rows of x [head_dim, heads, rows]: [head_dim, heads, count].
ggml_tensor* rows_from(Graph& graph, ggml_tensor* x, int64_t first, int64_t count) {
    if (count == x->ne[2]) return x;
    return ggml_view_3d(graph.ctx(), x, x->ne[0], x->ne[1], count, x->nb[1], x->nb[2], size_t(first) * x->nb[2]);
}

/// x [head_dim, heads, rows] into flat rows of `target`: kv_rows [cached heads · rows]. Each head is repeated for the
/// query heads of its group where those are cached, and stored in the `frame` of the cached heads, if there is one.
ggml_tensor* write_rows(Graph& graph, ggml_tensor* x, ggml_tensor* kv_rows, ggml_tensor* target,
                        const KeyFrame& frame = {}) {
    ggml_context* ctx = graph.ctx();
    const int64_t heads = x->ne[1], rows = x->ne[2], n_repeat = kv_rows->ne[0] / (heads * rows);
    if (n_repeat > 1) {
        x = ggml_repeat_4d(ctx, ggml_reshape_4d(ctx, x, x->ne[0], 1, heads, rows), x->ne[0], n_repeat, heads, rows);
    }
    if (frame) x = build_framed(ctx, ggml_reshape_3d(ctx, x, x->ne[0], n_repeat * heads, rows), frame);
    x = ggml_reshape_2d(ctx, x, x->ne[0], n_repeat * heads * rows);
    return ggml_set_rows(ctx, flat_rows(ctx, target), x, kv_rows);
}

/// Where rows' keys and values go: flat rows `kv_rows` of `kv`.
struct KvTarget {
    KvTensors kv;
    ggml_tensor* kv_rows = nullptr;  // int64 [cached heads · rows]
};

bool is_plain(ggml_type type) { return type == GGML_TYPE_F32 || type == GGML_TYPE_F16; }

/// Whether threads can store the rows of K and V that they compute by themselves: every head once, as numbers that are
/// not quantised and have no frame of their own.
bool can_store(const LayerContext& layer, std::span<const Linear> linears, const ggml_tensor* x,
               const KvTarget& target) {
    return all_packed(linears) && is_plain(target.kv.k->type) && (!target.kv.v || is_plain(target.kv.v->type)) &&
           !target.kv.frame && target.kv_rows->ne[0] == int64_t(layer.hparams.n_head_kv) * x->ne[1];
}

/// A key or a value [head_dim] as a cache holds it, into flat row `row` of `tensor`: keys in the `frame` of cached head
/// `head`, if there is one.
void store_row(const float* values, const ggml_tensor* tensor, int64_t row, const KeyFrame& frame = {}, int head = 0) {
    static thread_local std::vector<float> framed;  // [head_dim]
    const int64_t head_dim = tensor->ne[0];
    if (frame) {
        const float *offset = floats(frame.offset) + head * head_dim, *scale = floats(frame.scale) + head * head_dim;
        framed.resize(size_t(head_dim));
        for (int64_t i = 0; i < head_dim; ++i) framed[size_t(i)] = (values[i] - offset[i]) / scale[i];
        values = framed.data();
    }
    char* target = static_cast<char*>(tensor->data) + size_t(row) * tensor->nb[1];
    if (is_plain(tensor->type)) {
        kernels::store_kv_row(values, int(head_dim), kernel_type(tensor->type), target);
    } else {
        ggml_get_type_traits_cpu(tensor->type)->from_float(values, target, head_dim);
    }
}

/// Rows [n][heads][head_dim] into the flat rows `kv_rows` [n][heads] of `tensor`.
void store_heads(const float* heads, int64_t n_row, const int64_t* kv_rows, const ggml_tensor* tensor) {
    for (int64_t i = 0; i < n_row; ++i, heads += tensor->ne[0]) store_row(heads, tensor, kv_rows[i]);
}

/// Keys, rotated, and values of the rows x, stored by the threads that compute them. Returns the node to compute, which
/// stands for the written keys.
ggml_tensor* build_stored_heads(Graph& graph, const LayerContext& layer, std::span<const Linear> linears,
                                ggml_tensor* x, ggml_tensor* positions, const KvTarget& target) {
    std::vector<ggml_tensor*> args = {x, positions, target.kv_rows};
    if (target.kv.v) args.push_back(target.kv.v);
    const std::vector<Linear> own(linears.begin(), linears.end());
    const kernels::RmsNorm norm = Norm{layer.weights.attn_norm, layer.hparams.norm_eps}.of_kernels();
    const auto compute = [own, norm, rope = rope_of(layer)](ggml_tensor* k, kernels::Team& team) {
        const ggml_tensor *rows = k->src[1], *at = k->src[2], *v = k->src[4];
        const auto* kv_rows = static_cast<const int64_t*>(k->src[3]->data);
        const int head_dim = int(k->ne[0]), n_head = own[0].packed->n() / head_dim;
        const auto store = [&](int first, int n, std::span<const kernels::Rows> y) {
            rotate_rows(rope, at, first, n, y[0], head_dim);
            const int64_t* own_rows = kv_rows + int64_t(first) * n_head;
            store_heads(y[0].data, int64_t(n) * n_head, own_rows, k);
            if (v) store_heads(y[1].data, int64_t(n) * n_head, own_rows, v);
        };
        kernels::linear(outputs_of(own, nullptr, 0), norm, rows_of(rows), int(rows->ne[1]), team, store);
    };
    return graph.cpu_node_over(target.kv.k, args, compute);
}

/// Whether one node can compute queries, keys and values of the rows x.
bool can_fuse_heads(const LayerContext& layer, std::span<const Linear> linears, const ggml_tensor* x) {
    return by_row(linears, x) && layer.hparams.head_dim % 4 == 0;
}

/// Queries, rotated, of the rows x, and their keys and values, rotated and stored by the threads that compute them.
ggml_tensor* build_fused_heads(Graph& graph, const LayerContext& layer, ggml_tensor* x, ggml_tensor* positions,
                               std::span<const RowTarget> targets) {
    const std::vector<Linear> own = {layer.linears.q, layer.linears.k, layer.linears.v};
    const std::vector<RowTarget> to(targets.begin(), targets.end());
    const std::vector<int64_t> sizes = row_sizes_of(own);  // q, k, v
    const Norm norm{layer.weights.attn_norm, layer.hparams.norm_eps};
    const auto compute = [own, to, norm, rope = rope_of(layer),
                          head_dim = layer.hparams.head_dim](ggml_tensor* dst, kernels::Team& team) {
        const ggml_tensor *src = dst->src[0], *at = dst->src[1];
        const std::vector<kernels::QuantizedOutput> outputs = row_outputs_of(own, floats(dst), src->ne[1]);
        const auto store = [&](size_t output, int first, int last) {
            for (size_t row = 0; row < to.size(); ++row) {
                float* heads = outputs[output].y.data + row * outputs[output].y.stride;
                const kernels::Rows computed{heads + first, size_t(last - first)};
                if (output < 2) rotate_rows(rope, at, int(row), 1, computed, head_dim);
                if (output == 0) continue;
                const bool is_key = output == 1;
                const KvTensors& kv = to[row].kv;
                const int n_repeat = int(to[row].kv_rows.size()) * head_dim / outputs[output].weights.n;
                for (int head = first / head_dim * n_repeat; head < last / head_dim * n_repeat; ++head) {
                    store_row(heads + head / n_repeat * head_dim, is_key ? kv.k : kv.v, to[row].kv_rows[size_t(head)],
                              is_key ? kv.frame : KeyFrame{}, head);
                }
            }
        };
        kernels::quantized_linear(outputs, norm.of_kernels(), rows_of(src), int(src->ne[1]), team, head_dim, store);
    };
    ggml_tensor* all = graph.cpu_node({total(sizes) * x->ne[1]}, {x, positions}, compute);
    graph.compute(all);  // before what reads the caches
    return split_heads(graph, split_outputs(graph, all, sizes, x->ne[1]).front(), layer.hparams.head_dim);
}

/// Keys and values of the rows x, written to several caches, as many rows for each: those of the first come first.
std::vector<KvTensors> build_written_heads(Graph& graph, const LayerContext& layer, ggml_tensor* x,
                                           ggml_tensor* positions, std::span<const KvTarget> targets) {
    const bool values = targets[0].kv.v;
    const Linear both[] = {layer.linears.k, layer.linears.v};
    const std::span<const Linear> linears(both, values ? 2 : 1);
    if (targets.size() == 1 && can_store(layer, linears, x, targets[0])) {
        KvTensors written = targets[0].kv;
        written.k = build_stored_heads(graph, layer, linears, x, positions, targets[0]);
        written.v = nullptr;
        return {written};
    }
    const std::vector<ggml_tensor*> heads = build_heads(graph, layer, linears, x, positions);
    const int64_t share = x->ne[1] / int64_t(targets.size());
    std::vector<KvTensors> written;
    for (const KvTarget& target : targets) {
        const int64_t first = share * int64_t(written.size());
        KvTensors own = target.kv;
        own.k =
            write_rows(graph, rows_from(graph, heads[0], first, share), target.kv_rows, target.kv.k, target.kv.frame);
        if (values) own.v = write_rows(graph, rows_from(graph, heads[1], first, share), target.kv_rows, target.kv.v);
        written.push_back(own);
    }
    return written;
}

}  // namespace

ggml_tensor* build_unrotated_queries(Graph& graph, const LayerContext& layer, ggml_tensor* x) {
    ggml_tensor* q = build_projections(graph, layer, {&layer.linears.q, 1}, x).front();
    return split_heads(graph, q, layer.hparams.head_dim);
}

ggml_tensor* build_queries(Graph& graph, const LayerContext& layer, ggml_tensor* x, ggml_tensor* positions) {
    return build_heads(graph, layer, {&layer.linears.q, 1}, x, positions).front();
}

KvTensors build_keys_values(Graph& graph, const LayerContext& layer, ggml_tensor* x, ggml_tensor* positions,
                            ggml_tensor* kv_rows, const KvTensors& kv) {
    const KvTarget target{kv, kv_rows};
    return build_written_heads(graph, layer, x, positions, {&target, 1}).front();
}

RowHeads build_row_heads(Graph& graph, const LayerContext& layer, ggml_tensor* x, ggml_tensor* positions,
                         std::span<const RowTarget> targets) {
    const Linear linears[] = {layer.linears.q, layer.linears.k, layer.linears.v};
    RowHeads heads;
    if (can_fuse_heads(layer, linears, x)) {
        heads.q = build_fused_heads(graph, layer, x, positions, targets);
        for (const RowTarget& target : targets) heads.written.push_back(target.kv);
        return heads;
    }
    std::vector<KvTarget> own;
    for (const RowTarget& target : targets) {
        const auto n = int64_t(target.kv_rows.size());
        own.push_back({target.kv, graph.input(GGML_TYPE_I64, {n}, target.kv_rows.data())});
    }
    heads.written = build_written_heads(graph, layer, x, positions, own);
    heads.q = build_queries(graph, layer, x, positions);
    return heads;
}

ggml_tensor* build_turned_keys(Graph& graph, const LayerContext& layer, ggml_tensor* keys, ggml_tensor* shift,
                               ggml_tensor* kv_rows, const KvTensors& kv) {
    return write_rows(graph, build_rope(graph, layer, keys, shift), kv_rows, kv.k, kv.frame);
}

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
    const Norm norm{output_norm, hparams.norm_eps};
    if (output.packed) return build_packed_linears(graph, {&output, 1}, norm, x).front();
    if (by_row({&output, 1}, x)) return build_row_linears(graph, {&output, 1}, norm, x).front();
    return build_quantised_linear(graph, output, build_norm(graph, hparams.norm_eps, x, output_norm));
}

}  // namespace fastkv
