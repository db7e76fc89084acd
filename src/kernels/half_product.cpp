#include "kernels/half_product.h"

#include "kernels/half_target.h"

#if FASTKV_HAS_HALF

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>

#include "kernels/panels.h"
#include "kernels/simd.h"

namespace fastkv::kernels::half {

namespace {

using panels::panel_cols;

/// The largest of a row of A lies in [4, 8), that of a panel of B in [16, 32): the products of a panel stay below
/// 65,504, and what is 2^16 or 2^18 times smaller still has all of bf16's bits.
constexpr int row_exponent = 2;
constexpr int panel_exponent = 4;
static_assert(panel_depth << (row_exponent + 1 + panel_exponent + 1) < 65504);

/// bf16 as float16: of eight bits of exponent the lower five are left once `offset` is subtracted, which is the same as
/// a division by a power of two; `inverse` takes values back to where they were.
struct Halving {
    int offset = 0;
    float inverse = 1;

    /// Such that values of magnitude `largest`, bf16 without its sign, get the exponent. With an infinity or a NaN
    /// among them nothing that they are multiplied into is a number.
    static Halving of(uint32_t largest, int exponent) {
        constexpr int half_bias = 15, not_finite = 255;
        const int own = static_cast<int>(largest >> 7);
        const int offset = std::max(0, own - half_bias - exponent);
        const auto power = std::bit_cast<float>(static_cast<uint32_t>(offset + half_bias) << 23);
        return {offset, own == not_finite ? std::numeric_limits<float>::quiet_NaN() : power};
    }
};

/// Two bf16 in every word.
FASTKV_HALF inline __m512i magnitudes(__m512i pairs) { return _mm512_and_si512(pairs, _mm512_set1_epi32(0x7FFF7FFF)); }

/// The largest magnitude of n bf16, a multiple of 32.
FASTKV_HALF uint32_t largest_of(const uint16_t* values, int n) {
    __m512i largest = _mm512_setzero_si512();
    for (int i = 0; i < n; i += 32) largest = _mm512_max_epu16(largest, magnitudes(_mm512_loadu_si512(values + i)));
    const __m512i lower = _mm512_and_si512(largest, _mm512_set1_epi32(0xFFFF));
    return _mm512_reduce_max_epu32(_mm512_max_epu32(lower, _mm512_srli_epi32(largest, 16)));
}

/// n bf16, a multiple of 32, become float16, `largest` of them with the exponent, what is too small zero; returns what
/// products are to be multiplied by.
FASTKV_HALF float halve(uint16_t* values, int n, uint32_t largest, int exponent) {
    const Halving halving = Halving::of(largest, exponent);
    const __m512i offset = _mm512_set1_epi16(static_cast<int16_t>(halving.offset << 7));
    const __m512i sign = _mm512_set1_epi32(static_cast<int>(0x80008000U));
    for (int i = 0; i < n; i += 32) {
        const __m512i bits = _mm512_loadu_si512(values + i);
        const __m512i shifted = _mm512_slli_epi16(_mm512_subs_epu16(magnitudes(bits), offset), 3);
        _mm512_storeu_si512(values + i, _mm512_ternarylogic_epi32(sign, bits, shifted, 0xEA));  // sign & bits | shifted
    }
    return halving.inverse;
}

/// Sums that stay in registers: rows by vectors of 16 columns, a sum for either value of a pair.
constexpr int sum_rows = panels::block_rows;
constexpr int sum_vectors = panel_cols / 16;

using Sums = __m512h[sum_rows][sum_vectors];

/// sum_rows rows by the columns of a panel: A float16, rows `a_stride` apart, B [depth / 2][panel_cols][2].
FASTKV_HALF __attribute__((always_inline)) inline void sum_products(const uint16_t* a, size_t a_stride,
                                                                    const uint16_t* b, int depth, Sums& sum) {
#pragma GCC unroll 4
    for (int r = 0; r < sum_rows; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < sum_vectors; ++v) sum[r][v] = _mm512_setzero_ph();
    }
    for (int k = 0; k < depth; k += 2, b += 2 * panel_cols) {
        __m512h columns[sum_vectors];
#pragma GCC unroll 4
        for (int v = 0; v < sum_vectors; ++v) columns[v] = _mm512_loadu_ph(b + 32 * v);
#pragma GCC unroll 4
        for (size_t r = 0; r < sum_rows; ++r) {
            const __m512h pair = _mm512_castsi512_ph(_mm512_broadcastd_epi32(_mm_loadu_si32(a + r * a_stride + k)));
#pragma GCC unroll 4
            for (int v = 0; v < sum_vectors; ++v) sum[r][v] = _mm512_fmadd_ph(pair, columns[v], sum[r][v]);
        }
    }
}

/// 16 columns of a row: both sums, times their scale, (added) to C.
FASTKV_HALF inline void store_sums(__m512h sums, __m512 scale, bool accumulate, float* c) {
    const __m512h swapped = _mm512_castsi512_ph(_mm512_rol_epi32(_mm512_castph_si512(sums), 16));
    const __m256i halves = _mm512_cvtepi32_epi16(_mm512_castph_si512(_mm512_add_ph(sums, swapped)));
    const __m512 before = accumulate ? _mm512_loadu_ps(c) : _mm512_setzero_ps();
    _mm512_storeu_ps(c, _mm512_fmadd_ps(_mm512_cvtph_ps(halves), scale, before));
}

/// sum_rows rows of C by the columns of a panel.
FASTKV_HALF void add_products(const uint16_t* a, size_t a_stride, const float* a_scales, const uint16_t* b,
                              float b_scale, int depth, bool accumulate, float* c, size_t c_stride) {
    Sums sum;
    sum_products(a, a_stride, b, depth, sum);
#pragma GCC unroll 4
    for (size_t r = 0; r < sum_rows; ++r) {
        const __m512 scale = _mm512_set1_ps(a_scales[r] * b_scale);
#pragma GCC unroll 4
        for (int v = 0; v < sum_vectors; ++v) store_sums(sum[r][v], scale, accumulate, c + r * c_stride + 16 * v);
    }
}

/// 32 columns of a row of scores, from vectors of 16: a word of either holds both sums of a column.
FASTKV_HALF inline void store_scores(__m512h left, __m512h right, __m512i order, uint16_t* scores) {
    constexpr __mmask32 upper = 0xAAAAAAAAU;
    const __m512i l = _mm512_castph_si512(left), r = _mm512_castph_si512(right);
    const __m512i ones = _mm512_mask_blend_epi16(upper, l, r);
    const __m512i others = _mm512_rol_epi32(_mm512_mask_blend_epi16(upper, r, l), 16);
    const __m512h sums = _mm512_add_ph(_mm512_castsi512_ph(ones), _mm512_castsi512_ph(others));
    _mm512_storeu_si512(scores, _mm512_permutexvar_epi16(order, _mm512_castph_si512(sums)));
}

/// Where its 32 columns lie once the lower halves of words are the left vector's and the upper ones the right one's.
FASTKV_HALF inline __m512i columns_in_words() {
    alignas(64) uint16_t order[32];
    for (int i = 0; i < 32; ++i) order[i] = static_cast<uint16_t>(i % 16 * 2 + i / 16);
    return _mm512_load_si512(order);
}

/// sum_rows rows of scores, `stride` apart, by the columns of a panel that holds all of k.
FASTKV_HALF void put_products(const uint16_t* a, size_t a_stride, const uint16_t* b, int depth, __m512i order,
                              uint16_t* scores, size_t stride) {
    static_assert(sum_vectors == 4);
    Sums sum;
    sum_products(a, a_stride, b, depth, sum);
#pragma GCC unroll 4
    for (size_t r = 0; r < sum_rows; ++r) {
        store_scores(sum[r][0], sum[r][1], order, scores + r * stride);
        store_scores(sum[r][2], sum[r][3], order, scores + r * stride + 32);
    }
}

/// See panels::multiply().
class Kernel {
  public:
    static constexpr int whole_depth = panel_depth;

    void load_rows(const panels::Rows& rows, int) { rows_ = rows; }

    void load_columns(const uint16_t* panel, int, const float* scale) {
        columns_ = panel;
        column_scale_ = *scale;
    }

    void multiply(int row, int depth, bool accumulate, float* c, size_t c_stride) const {
        add_products(rows_.values + static_cast<size_t>(row) * rows_.stride, rows_.stride, rows_.scales + row, columns_,
                     column_scale_, depth, accumulate, c, c_stride);
    }

  private:
    panels::Rows rows_;
    const uint16_t* columns_ = nullptr;  ///< [depth / 2][panel_cols][2] float16
    float column_scale_ = 0;
};

}  // namespace

bool available() {
    static const bool yes = max_isa() == Isa::amx && __builtin_cpu_supports("avx512fp16");
    return yes;
}

void ready_rows(int m, int k, uint16_t* rows, size_t stride, Magnitude magnitude, float* scales) {
    constexpr uint32_t one = 0x3F80;
    for (int r = 0; r < m; ++r, rows += stride) {
        const uint32_t largest = magnitude == Magnitude::up_to_one ? one : largest_of(rows, k);
        scales[r] = halve(rows, k, largest, row_exponent);
    }
}

int column_scales(int n, int k) { return n / panel_cols * panels::Cuts(k, panel_depth).n; }

void ready_columns(int n, int k, uint16_t* packed, float* scales) {
    const panels::Cuts cuts(k, panel_depth);
    for (int col = 0; col < n; col += panel_cols) {
        for (int panel = 0; panel < cuts.n; ++panel) {
            uint16_t* values = packed + cuts.offset(col, panel);
            const int count = cuts.length(panel) * panel_cols;
            scales[cuts.index(col, panel)] = halve(values, count, largest_of(values, count), panel_exponent);
        }
    }
}

void multiply(const ProductShape& shape, const ReadyRows& a, const PackedColumns& b, float* c,
              const FetchAhead& ahead) {
    Kernel kernel;
    panels::multiply(kernel, shape, a, b, c, ahead);
}

bool has_scores(int k) { return available() && k <= panel_depth; }

FASTKV_HALF void multiply_scores(const ProductShape& shape, const ReadyRows& a, const PackedColumns& b,
                                 uint16_t* scores) {
    const auto* rows = static_cast<const uint16_t*>(a.values);
    const auto* columns = static_cast<const uint16_t*>(b.values);
    const __m512i order = columns_in_words();
    for (int col = 0; col < shape.n; col += panel_cols) {
        const uint16_t* panel = columns + static_cast<size_t>(col) * static_cast<size_t>(shape.k);
        for (int r = 0; r < shape.m; r += sum_rows) {
            const auto row = static_cast<size_t>(r);
            put_products(rows + row * shape.a_stride, shape.a_stride, panel, shape.k, order,
                         scores + row * shape.c_stride + col, shape.c_stride);
        }
    }
}

}  // namespace fastkv::kernels::half

#else  // another processor or system: available() says so, and nothing else is called

namespace fastkv::kernels::half {

bool available() { return false; }
void ready_rows(int, int, uint16_t*, size_t, Magnitude, float*) {}
int column_scales(int, int) { return 0; }
void ready_columns(int, int, uint16_t*, float*) {}
void multiply(const ProductShape&, const ReadyRows&, const PackedColumns&, float*, const FetchAhead&) {}
bool has_scores(int) { return false; }
void multiply_scores(const ProductShape&, const ReadyRows&, const PackedColumns&, uint16_t*) {}

}  // namespace fastkv::kernels::half

#endif
