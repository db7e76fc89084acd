// A few rows times a matrix as the file stores it: what decoding does all day, as fast as memory hands over the
// weights.
#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "kernels/gemm.h"
#include "kernels/quantized_matrix.h"

namespace fastkv::kernels {

/// More rows than this are not what these products are for: every thread keeps all of them in 8 bits.
constexpr int max_quantized_rows = 64;

/// One of the linear layers that read the same rows: y[m][n] = base + x[m][k]·Wᵀ.
struct QuantizedOutput {
    QuantizedMatrix weights;
    ConstRows base;  ///< [m][n], or none: the residual stream, or, with a stride of 0, a bias
    Rows y;
};

/// Called by the thread that has computed columns [first, last) of all rows of an output.
using ColumnsDone = std::function<void(size_t output, int first, int last)>;

/// Linear layers of the rows x[m][k], normalised before: the rows of the matrices that this thread of the team takes,
/// each of which is read once for all m. x is rounded to 8 bits in blocks of 32, as ggml does; sums are exact integers
/// within a block. A row's result does not depend on the others: it is the same, bit for bit, as with m = 1.
/// One thread computes `together` neighbouring columns, a multiple of 4 of which every output has a multiple if there
/// is `done`, and hands them to that.
void quantized_linear(std::span<const QuantizedOutput> outputs, const RmsNorm& norm, ConstRows x, int m, Team& team,
                      int together = 4, const ColumnsDone& done = {});

/// y[m][n_ff] = silu(gate·x̂) · (up·x̂) with x̂ = norm(x): the columns that this thread of the team takes.
struct QuantizedGate {
    RmsNorm norm;
    QuantizedMatrix gate;
    QuantizedMatrix up;
};
void quantized_gate(const QuantizedGate& layer, ConstRows x, Rows y, int m, Team& team);

}  // namespace fastkv::kernels
