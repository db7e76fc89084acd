// A few rows times a matrix as the file stores it: what decoding does all day, as fast as memory hands over the
// weights.
#pragma once

#include <cstddef>
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

/// Linear layers of the rows x[m][k], normalised before: this thread's share of the rows of every matrix, each of which
/// is read once for all m. x is rounded to 8 bits in blocks of 32, as ggml does; sums are exact integers within a
/// block. A row's result does not depend on the others: it is the same, bit for bit, as with m = 1.
void quantized_linear(std::span<const QuantizedOutput> outputs, const RmsNorm& norm, ConstRows x, int m, int ith,
                      int nth);

/// y[m][n_ff] = silu(gate·x̂) · (up·x̂) with x̂ = norm(x): this thread's share of the columns.
struct QuantizedGate {
    RmsNorm norm;
    QuantizedMatrix gate;
    QuantizedMatrix up;
};
void quantized_gate(const QuantizedGate& layer, ConstRows x, Rows y, int m, int ith, int nth);

}  // namespace fastkv::kernels
