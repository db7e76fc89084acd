// The linear layers of a graph, by whatever multiplies their weights: packed ones by fastkv's products, a few rows by
// the quantised weights as the file has them, the rest by ggml.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/expand.h"
#include "engine/graph.h"
#include "kernels/gemm.h"
#include "kernels/quantized_linear.h"
#include "kernels/rope.h"

namespace fastkv {

inline float* floats(const ggml_tensor* tensor) { return static_cast<float*>(tensor->data); }

/// The rows of a matrix of float32: [values, rows].
inline kernels::ConstRows rows_of(const ggml_tensor* x) { return {floats(x), x->nb[1] / sizeof(float)}; }

/// What a row goes through before it is multiplied: a norm's weight [n_in], or nothing.
struct Norm {
    ggml_tensor* weight = nullptr;
    float eps = 0;

    kernels::RmsNorm of_kernels() const { return {weight ? floats(weight) : nullptr, eps}; }
};

/// norm(x) by ggml: x / sqrt(mean(x²) + eps) · weight, row by row: [n_embd, rows] -> [n_embd, rows].
ggml_tensor* build_norm(Graph& graph, const Norm& norm, ggml_tensor* x);

/// W·norm(x) + b for each of the linear layers of x [n_in, rows]: [n_out, rows] each.
std::vector<ggml_tensor*> build_linears(Graph& graph, std::span<const Linear> linears, const Norm& norm,
                                        ggml_tensor* x);

/// y = W·x + b by the weights as the file has them: [n_in, rows] -> [n_out, rows].
ggml_tensor* build_quantised_linear(Graph& graph, const Linear& linear, ggml_tensor* x);

/// Whether all of them are packed.
bool all_packed(std::span<const Linear> linears);

/// Whether fastkv multiplies the rows x by the weights as the file has them: a few rows, by types that it knows.
bool by_row(std::span<const Linear> linears, const ggml_tensor* x);

/// Whose heads are rotated, and by what.
struct Rotation {
    kernels::Rope rope;
    int head_dim = 0;
    ggml_tensor* positions = nullptr;  // [rows], or none: nothing is rotated
};

/// Rotates `n` rows of heads [n_head][head_dim], the first of which is row `first` of positions [rows].
void rotate_rows(const kernels::Rope& rope, const ggml_tensor* positions, int first, int n, kernels::Rows rows,
                 int head_dim);

/// The linear layers of the normalised rows x [n_in, rows] by one node, which normalises once and rotates what the
/// first gives: [n_out, rows] each, one behind the other.
std::vector<ggml_tensor*> build_packed_linears(Graph& graph, std::span<const Linear> linears, const Norm& norm,
                                               ggml_tensor* x, const Rotation& rotation = {});

/// Linear layers as the kernels take them, with outputs [n_row][n_out] one behind the other from y on, or without y
/// none that stay.
std::vector<kernels::LinearOutput> outputs_of(std::span<const Linear> linears, float* y, int64_t n_row);

/// Linear layers of a few rows as the kernels take them, with outputs [n_row][n_out] one behind the other from y on.
std::vector<kernels::QuantizedOutput> row_outputs_of(std::span<const Linear> linears, float* y, int64_t n_row);

/// How many numbers the linear layers give for `n_row` rows, one behind the other.
int64_t outputs_size(std::span<const Linear> linears, int64_t n_row);

/// What they have left in `all`, so arranged: [n_out, rows] each.
std::vector<ggml_tensor*> split_outputs(Graph& graph, ggml_tensor* all, std::span<const Linear> linears, int64_t n_row);

}  // namespace fastkv
