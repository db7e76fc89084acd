#include "engine/qkv.h"

#include <vector>

#include "engine/linears.h"
#include "ggml-cpu.h"
#include "kernels/rope.h"
#include "kernels/vector_ops.h"
#include "model/hparams.h"

namespace fastkv {

kernels::Rope rope_of(const LayerContext& layer) {
    const HyperParams& hp = layer.hparams;
    const ggml_tensor* factors = layer.weights.rope_freqs;
    return {hp.n_rot, hp.rope_theta, hp.rope_freq_scale, factors ? floats(factors) : nullptr,
            rope_mode(hp) == GGML_ROPE_TYPE_NEOX};
}

Norm attention_norm(const LayerContext& layer) { return {layer.weights.attn_norm, layer.hparams.norm_eps}; }

namespace {

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

/// [head_dim * heads, rows] -> [head_dim, heads, rows]
ggml_tensor* split_heads(Graph& graph, ggml_tensor* x, int head_dim) {
    return ggml_reshape_3d(graph.ctx(), x, head_dim, x->ne[0] / head_dim, x->ne[1]);
}

/// The heads that the projections of x give, those of the first rotated: [head_dim, heads, rows] each.
std::vector<ggml_tensor*> build_heads(Graph& graph, const LayerContext& layer, std::span<const Linear> linears,
                                      ggml_tensor* x, ggml_tensor* positions) {
    const int head_dim = layer.hparams.head_dim;
    const bool packed = all_packed(linears);
    std::vector<ggml_tensor*> heads =
        packed ? build_packed_linears(graph, linears, attention_norm(layer), x, {rope_of(layer), head_dim, positions})
               : build_linears(graph, linears, attention_norm(layer), x);
    for (ggml_tensor*& part : heads) part = split_heads(graph, part, head_dim);
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
    const auto compute = [own, norm = attention_norm(layer).of_kernels(), rope = rope_of(layer)](ggml_tensor* k,
                                                                                                 kernels::Team& team) {
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

/// Heads [first, last) of a row of keys or values, `row_size` numbers, each for all cached heads that are its.
void store_heads(const float* heads, int first, int last, size_t row_size, const RowTarget& to, bool are_keys) {
    const ggml_tensor* tensor = are_keys ? to.kv.k : to.kv.v;
    const int head_dim = int(tensor->ne[0]), n_repeat = int(to.kv_rows.size()) / (int(row_size) / head_dim);
    for (int head = first; head < last; ++head, heads += head_dim) {
        for (int cached = head * n_repeat; cached < (head + 1) * n_repeat; ++cached) {
            store_row(heads, tensor, to.kv_rows[size_t(cached)], are_keys ? to.kv.frame : KeyFrame{}, cached);
        }
    }
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
    const auto compute = [own, to, norm = attention_norm(layer).of_kernels(), rope = rope_of(layer),
                          head_dim = layer.hparams.head_dim](ggml_tensor* dst, kernels::Team& team) {
        const ggml_tensor *src = dst->src[0], *at = dst->src[1];
        const std::vector<kernels::QuantizedOutput> outputs = row_outputs_of(own, floats(dst), src->ne[1]);
        const auto store = [&](size_t output, int first, int last) {  // of q, k, v
            const kernels::Rows y = outputs[output].y;
            for (size_t row = 0; row < to.size(); ++row) {
                float* computed = y.data + row * y.stride + first;
                if (output < 2) rotate_rows(rope, at, int(row), 1, {computed, size_t(last - first)}, head_dim);
                if (output > 0)
                    store_heads(computed, first / head_dim, last / head_dim, y.stride, to[row], output == 1);
            }
        };
        kernels::quantized_linear(outputs, norm, rows_of(src), int(src->ne[1]), team, head_dim, store);
    };
    ggml_tensor* all = graph.cpu_node({outputs_size(own, x->ne[1])}, {x, positions}, compute);
    graph.compute(all);  // before what reads the caches
    return split_heads(graph, split_outputs(graph, all, own, x->ne[1]).front(), layer.hparams.head_dim);
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
    ggml_tensor* q = build_linears(graph, {&layer.linears.q, 1}, attention_norm(layer), x).front();
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

}  // namespace fastkv
