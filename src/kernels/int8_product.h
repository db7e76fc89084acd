// Products of 8-bit integers, on AMX tiles or by VNNI: twice as fast as those of bf16. Rows are rotated before
// they are rounded, so that no single large value decides how coarsely all others are kept.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/product_shape.h"

namespace fastkv::kernels::int8 {

/// Whether this processor multiplies 8-bit integers natively (AMX-INT8, AVX512-VNNI or AVX-VNNI).
bool available();

/// Values that are rotated together; the length of a row is a multiple.
constexpr int rotated_values = 64;

/// x [n] float32, rotated in runs of 64 by a Hadamard matrix divided by 8 and then rounded to multiples of a scale of
/// its own for every `group` values (the last may be shorter), the largest of which becomes ±127: target [n],
/// scales [ceil(n / group)]. The rotation is orthogonal: products of two rotated rows are those of the rows
/// (QuaRot, arXiv 2404.00456, section 3). x is overwritten.
void quantize_row(float* x, int n, int group, int8_t* target, float* scales);

/// Packs B [k][n] from n rows of k values, `row_stride` bytes apart: [n / 64][k / 64][64 / 16 tiles][16 fours of k]
/// [16 columns][4], without AMX plus 128 each.
void pack_operand(int n, int k, const int8_t* source, size_t row_stride, int8_t* packed);

/// What the integers of a product stand for.
struct Scales {
    const float* a;   ///< [m], a_stride apart
    size_t a_stride;  ///< a row of A has one scale for every run of k that is a product of its own
    const float* b;   ///< [n]
};

/// As the function of product.h: C[i][j] = (C[i][j] +) a[i]·b[j]·Σ A[i]·B[j], with exact sums. `shape.k` is a multiple
/// of 64.
void multiply(const ProductShape& shape, const Scales& scales, const int8_t* a, const int8_t* packed_b, float* c,
              FetchAhead& ahead);

}  // namespace fastkv::kernels::int8
