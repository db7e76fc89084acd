// Products of 8-bit integers by AVX-VNNI, vectors of 256 bits: what the processors of laptops have that lack AVX-512.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/int8_product.h"

namespace fastkv::kernels::int8::narrow {

/// Whether this processor has AVX-VNNI.
bool available();

/// As the functions of int8_product.h, whose results these equal bit for bit. Columns are packed with 128 added.
void quantize_row(float* x, int n, int group, int8_t* target, float* scales);
void pack_operand(int n, int k, const int8_t* source, size_t row_stride, int8_t* packed);
void multiply(const ProductShape& shape, const Scales& scales, const int8_t* a, const int8_t* packed_b, float* c);

}  // namespace fastkv::kernels::int8::narrow
