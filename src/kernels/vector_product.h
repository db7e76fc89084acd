// Products of bf16 by multiply-adds of float32, on every processor with vectors.
#pragma once

#include "kernels/product_shape.h"

namespace fastkv::kernels::vectors {

/// Whether the vectors that Highway chose multiply and add in one instruction: AVX2, AVX-512, NEON.
bool available();

/// As the function of product.h, for bf16 packed by panels::pack_operand().
void multiply(const ProductShape& shape, const ReadyRows& a, const PackedColumns& b, float* c, const FetchAhead& ahead);

}  // namespace fastkv::kernels::vectors
