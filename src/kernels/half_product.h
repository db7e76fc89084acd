// Products of bf16 by multiply-adds of float16 (AVX512-FP16), which are twice as fast as those of float32.
#pragma once

#include "kernels/panels.h"
#include "kernels/product_shape.h"

namespace fastkv::kernels::half {

/// Whether this processor has AVX512-FP16.
bool available();

/// As the function of product.h, for bf16 packed by panels::pack_operand(). Operands become float16, rows of A and
/// panels of B divided by powers of two, so that 96 products can be summed up without an overflow; such sums are added
/// up in float32. A product of independent numbers is off by 0.0015 of itself, which is a little less than what it
/// costs that they are bf16.
void multiply(const ProductShape& shape, const void* a, const void* packed_b, float* c, const FetchAhead& ahead);

/// How far sums of random numbers may be off, as a share of the sum of their magnitudes. Of 96 equal numbers, all of
/// whose roundings go the same way, it is worst_rounding.
constexpr double rounding = 0x1p-9;
constexpr double worst_rounding = panels::max_depth / 2.0 * 0x1p-11;

}  // namespace fastkv::kernels::half
