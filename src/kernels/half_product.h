// Products of bf16 by multiply-adds of float16 (AVX512-FP16), which are twice as fast as those of float32.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/product_shape.h"

namespace fastkv::kernels::half {

/// Whether this processor has AVX512-FP16.
bool available();

/// Values of k of a panel of B, which share a scale: as float16 it fills half of a first-level cache of 48 KiB.
constexpr int panel_depth = 192;

/// As the functions of product.h, for bf16, B packed by panels::pack_operand(). Rows of A and panels of B become
/// float16 in place, divided by powers of two, so that twice 96 products can be summed up without an overflow; such
/// sums are added up in float32. A product of independent numbers is off by 0.0015 of itself, which is a little less
/// than what it costs that they are bf16.
void ready_rows(int m, int k, uint16_t* rows, size_t stride, Magnitude magnitude, float* scales);
int column_scales(int n, int k);
void ready_columns(int n, int k, uint16_t* packed, float* scales);
void multiply(const ProductShape& shape, const ReadyRows& a, const PackedColumns& b, float* c, const FetchAhead& ahead);

/// Scores of queries by keys as float16, for softmax_step() of half_softmax.h: C[m][n] = A·B, divided by the scales of
/// A [m] and B [n / 64], for k of a single panel (has_scores()). They are as exact as such sums are, and half as long
/// as float32.
bool has_scores(int k);
void multiply_scores(const ProductShape& shape, const ReadyRows& a, const PackedColumns& b, uint16_t* scores);

/// How far sums of random numbers may be off, as a share of the sum of their magnitudes. Of 96 equal numbers, all of
/// whose roundings go the same way, it is worst_rounding.
constexpr double rounding = 0x1p-9;
constexpr double worst_rounding = 96 / 2.0 * 0x1p-11;

}  // namespace fastkv::kernels::half
