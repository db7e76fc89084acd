// What a dense product is, for those that call it and those that compute it.
#pragma once

#include <cstddef>

#include "kernels/gemm.h"

namespace fastkv::kernels {

/// Multiples that callers pad their operands to, so that no kernel ever sees a ragged edge: one primitive serves
/// many prompt lengths, and packed operands have no padding of oneDNN's own (which it would clear on each use). Rows
/// need less padding where ProductSizes::m_step says so.
constexpr int product_m_step = 16;
constexpr int product_n_step = 64;
constexpr int product_k_step = 32;

/// C[m][n] = A[m][k]·B[k][n], or C += A·B. A and B of `type`, C float32; B packed by pack_operand(). Strides count
/// values between rows.
struct ProductShape {
    GemmType type = GemmType::f32;
    int m = 0;
    int n = 0;
    int k = 0;
    bool accumulate = false;
    size_t a_stride = 0;
    size_t c_stride = 0;
    bool fetches_c = false;  ///< C is not in the caches: AMX's products ask for it ahead
    bool operator==(const ProductShape&) const = default;
};

/// Rows of A as products take them: made ready once, in place, by ready_rows().
struct ReadyRows {
    const void* values = nullptr;
    const float* scales = nullptr;  ///< [m], where products ask for any
};

/// A packed B, made ready once by ready_columns().
struct PackedColumns {
    const void* values = nullptr;
    const float* scales = nullptr;  ///< where products ask for any
};

/// What is known of values beforehand: probabilities need not be looked through for the largest.
enum class Magnitude { any, up_to_one };

/// Memory that is read after this product, to be brought into the second-level cache while it is computed: operands of
/// a whole layer come from the third or from memory, and nothing else foresees where the next begins.
struct FetchAhead {
    const std::byte* next = nullptr;  ///< what of it has not been asked for; every product moves on
    const std::byte* end = nullptr;
};

/// A product whose A and C have no gaps between rows.
constexpr ProductShape dense_product(GemmType type, int m, int n, int k, bool accumulate) {
    return {type, m, n, k, accumulate, static_cast<size_t>(k), static_cast<size_t>(n)};
}

/// How the source of a packed operand lies in memory.
enum class OperandOrder {
    transposed,  ///< [n] rows of k values: a weight matrix, or keys
    straight,    ///< [k] rows of n values: values
};

}  // namespace fastkv::kernels
