#include "engine/linears.h"

#include <algorithm>

namespace fastkv {

namespace {

/// [n_out], or none.
const float* bias_of(const Linear& linear) { return linear.bias ? floats(linear.bias) : nullptr; }

}  // namespace

ggml_tensor* build_norm(Graph& graph, const Norm& norm, ggml_tensor* x) {
    return ggml_mul(graph.ctx(), ggml_rms_norm(graph.ctx(), x, norm.eps), norm.weight);
}

ggml_tensor* build_quantised_linear(Graph& graph, const Linear& linear, ggml_tensor* x) {
    ggml_tensor* y = ggml_mul_mat(graph.ctx(), linear.weight, x);
    return linear.bias ? ggml_add(graph.ctx(), y, linear.bias) : y;
}

bool all_packed(std::span<const Linear> linears) {
    return std::all_of(linears.begin(), linears.end(), [](const Linear& linear) { return linear.packed; });
}

bool by_row(std::span<const Linear> linears, const ggml_tensor* x) {
    return x->ne[1] <= kernels::max_quantized_rows &&
           std::all_of(linears.begin(), linears.end(),
                       [](const Linear& linear) { return linear.row_matrix && !linear.packed; });
}

int64_t outputs_size(std::span<const Linear> linears, int64_t n_row) {
    int64_t n_out = 0;
    for (const Linear& linear : linears) n_out += linear.weight->ne[1];
    return n_out * n_row;
}

std::vector<ggml_tensor*> split_outputs(Graph& graph, ggml_tensor* all, std::span<const Linear> linears,
                                        int64_t n_row) {
    std::vector<ggml_tensor*> parts;
    size_t offset = 0;
    for (const Linear& linear : linears) {
        const int64_t n = linear.weight->ne[1];
        parts.push_back(ggml_view_2d(graph.ctx(), all, n, n_row, size_t(n) * sizeof(float), offset));
        offset += size_t(n * n_row) * sizeof(float);
    }
    return parts;
}

std::vector<kernels::LinearOutput> outputs_of(std::span<const Linear> linears, float* y, int64_t n_row) {
    std::vector<kernels::LinearOutput> outputs;
    for (const Linear& linear : linears) {
        const auto n = size_t(linear.packed->n());
        outputs.push_back({linear.packed, bias_of(linear), y ? kernels::Rows{y, n} : kernels::Rows{}});
        if (y) y += n * size_t(n_row);
    }
    return outputs;
}

std::vector<kernels::QuantizedOutput> row_outputs_of(std::span<const Linear> linears, float* y, int64_t n_row) {
    std::vector<kernels::QuantizedOutput> outputs;
    for (const Linear& linear : linears) {
        const auto n = size_t(linear.row_matrix->n);
        outputs.push_back({*linear.row_matrix, {bias_of(linear), 0}, {y, n}});
        y += n * size_t(n_row);
    }
    return outputs;
}

void rotate_rows(const kernels::Rope& rope, const ggml_tensor* positions, int first, int n, kernels::Rows rows,
                 int head_dim) {
    kernels::rotate(rope, static_cast<const int32_t*>(positions->data) + first, rows.data, n,
                    int(rows.stride) / head_dim, head_dim);
}

std::vector<ggml_tensor*> build_packed_linears(Graph& graph, std::span<const Linear> linears, const Norm& norm,
                                               ggml_tensor* x, const Rotation& rotation) {
    const std::vector<Linear> own(linears.begin(), linears.end());
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
    ggml_tensor* all = graph.cpu_node({outputs_size(own, x->ne[1])}, args, compute);
    return split_outputs(graph, all, own, x->ne[1]);
}

namespace {

/// The linear layers of the few normalised rows x [n_in, rows] by one node: [n_out, rows] each, one behind the other.
std::vector<ggml_tensor*> build_row_linears(Graph& graph, std::span<const Linear> linears, const Norm& norm,
                                            ggml_tensor* x) {
    const std::vector<Linear> own(linears.begin(), linears.end());
    const auto compute = [own, norm](ggml_tensor* dst, kernels::Team& team) {
        const ggml_tensor* src = dst->src[0];
        kernels::quantized_linear(row_outputs_of(own, floats(dst), src->ne[1]), norm.of_kernels(), rows_of(src),
                                  int(src->ne[1]), team);
    };
    ggml_tensor* all = graph.cpu_node({outputs_size(own, x->ne[1])}, {x}, compute);
    return split_outputs(graph, all, own, x->ne[1]);
}

}  // namespace

std::vector<ggml_tensor*> build_linears(Graph& graph, std::span<const Linear> linears, const Norm& norm,
                                        ggml_tensor* x) {
    if (all_packed(linears)) return build_packed_linears(graph, linears, norm, x);
    if (by_row(linears, x)) return build_row_linears(graph, linears, norm, x);
    ggml_tensor* h = build_norm(graph, norm, x);
    std::vector<ggml_tensor*> parts;
    for (const Linear& linear : linears) {
        parts.push_back(linear.packed ? build_packed_linears(graph, {&linear, 1}, {}, h).front()
                                      : build_quantised_linear(graph, linear, h));
    }
    return parts;
}

}  // namespace fastkv
