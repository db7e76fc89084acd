#include "kernels/int8_product.h"

// GCC 12's own headers leave vectors uninitialised where it does not matter, and then warn of it.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#include "kernels/amx_product.h"
#include "kernels/int8_layout.h"
#include "kernels/int8_narrow.h"
#include "kernels/simd.h"

#if defined(__x86_64__) && defined(__linux__) && __has_include(<amxtileintrin.h>)

#include <cpuid.h>
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#define FASTKV_VNNI __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")))
#define FASTKV_AMX __attribute__((target("amx-tile,amx-int8,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")))

namespace fastkv::kernels::int8 {

namespace {

/// A tile is 16 rows of 64 bytes: 16 x 16 int32 of C, 16 x 64 values of A, 16 fours of k x 16 columns of B.
constexpr int tile_rows = 16;
constexpr int block = 32;  ///< rows and columns of C that are computed together

bool has_vnni() {
    return max_isa() >= Isa::avx512 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

bool has_tiles() {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    constexpr unsigned amx_int8 = 1U << 25;
    return amx::available() && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & amx_int8) != 0;
}

enum class Way { none, narrow, wide, tiles };

Way way() {
    static const Way best = [] {
        if (has_tiles()) return Way::tiles;
        if (has_vnni()) return Way::wide;
        return narrow::available() ? Way::narrow : Way::none;
    }();
    return best;
}

/// A step of the rotation within a vector: each value becomes the sum, or the difference, with its partner.
FASTKV_VNNI inline __m512 butterfly(__m512 x, __m512 partner, __mmask16 upper) {
    return _mm512_mask_sub_ps(_mm512_add_ps(x, partner), upper, partner, x);
}

/// The fast Hadamard transform of 16 values.
FASTKV_VNNI inline __m512 rotate_vector(__m512 x) {
    x = butterfly(x, _mm512_permute_ps(x, 0xB1), 0xAAAA);
    x = butterfly(x, _mm512_permute_ps(x, 0x4E), 0xCCCC);
    x = butterfly(x, _mm512_shuffle_f32x4(x, x, 0xB1), 0xF0F0);
    return butterfly(x, _mm512_shuffle_f32x4(x, x, 0x4E), 0xFF00);
}

/// Of 64 values, divided by 8, in place; returns the largest magnitudes.
FASTKV_VNNI inline __m512 rotate(float* x) {
    const __m512 a = rotate_vector(_mm512_loadu_ps(x)), b = rotate_vector(_mm512_loadu_ps(x + 16));
    const __m512 c = rotate_vector(_mm512_loadu_ps(x + 32)), d = rotate_vector(_mm512_loadu_ps(x + 48));
    const __m512 eighth = _mm512_set1_ps(0.125F);
    const __m512 ab = _mm512_mul_ps(_mm512_add_ps(a, b), eighth), a_b = _mm512_mul_ps(_mm512_sub_ps(a, b), eighth);
    const __m512 cd = _mm512_mul_ps(_mm512_add_ps(c, d), eighth), c_d = _mm512_mul_ps(_mm512_sub_ps(c, d), eighth);
    const __m512 y[4] = {_mm512_add_ps(ab, cd), _mm512_add_ps(a_b, c_d), _mm512_sub_ps(ab, cd),
                         _mm512_sub_ps(a_b, c_d)};
    for (int i = 0; i < 4; ++i) _mm512_storeu_ps(x + 16 * i, y[i]);
    return _mm512_max_ps(_mm512_max_ps(_mm512_abs_ps(y[0]), _mm512_abs_ps(y[1])),
                         _mm512_max_ps(_mm512_abs_ps(y[2]), _mm512_abs_ps(y[3])));
}

FASTKV_VNNI void quantize_wide(float* x, int n, int group, int8_t* target, float* scales) {
    for (int begin = 0; begin < n; begin += group, ++scales) {
        const int end = std::min(n, begin + group);
        __m512 largest = _mm512_setzero_ps();
        for (int i = begin; i < end; i += rotated_values) largest = _mm512_max_ps(largest, rotate(x + i));
        const float limit = _mm512_reduce_max_ps(largest);
        *scales = limit / 127.0F;
        const __m512 inverse = _mm512_set1_ps(limit > 0 ? 127.0F / limit : 0.0F);
        for (int i = begin; i < end; i += 16) {
            const __m512i rounded = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i), inverse));
            _mm_storeu_si128(reinterpret_cast<__m128i*>(target + i), _mm512_cvtsepi32_epi8(rounded));
        }
    }
}

FASTKV_VNNI void pack_wide(int n, int k, const int8_t* source, size_t row_stride, int8_t* packed) {
    const __m512i columns = _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                                               _mm512_set1_epi32(static_cast<int>(row_stride)));
    // without tiles 128 is added, see multiply_vectors()
    const __m512i offset = way() == Way::tiles ? _mm512_setzero_si512() : _mm512_set1_epi32(sign_bits);
    for (int group = 0; group < n; group += group_cols) {
        for (int depth = 0; depth < k; depth += tile_k) {
            for (int col = group; col < group + group_cols; col += tile_cols) {
                const int8_t* first = source + static_cast<size_t>(col) * row_stride + depth;
                for (int four = 0; four < tile_k; four += 4, packed += tile_k) {
                    const __m512i values = _mm512_i32gather_epi32(columns, first + four, 1);
                    _mm512_storeu_si512(packed, _mm512_xor_si512(values, offset));
                }
            }
        }
    }
}

/// 32 sums of one row, as they are meant, to where they go.
FASTKV_VNNI inline void store_scaled(__m512i left, __m512i right, float a, const float* b, bool accumulate, float* c) {
    const __m512 scale = _mm512_set1_ps(a);
    const __m512 x = _mm512_mul_ps(_mm512_cvtepi32_ps(left), _mm512_loadu_ps(b));
    const __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(right), _mm512_loadu_ps(b + 16));
    const __m512 before_x = accumulate ? _mm512_loadu_ps(c) : _mm512_setzero_ps();
    const __m512 before_y = accumulate ? _mm512_loadu_ps(c + 16) : _mm512_setzero_ps();
    _mm512_storeu_ps(c, _mm512_fmadd_ps(x, scale, before_x));
    _mm512_storeu_ps(c + 16, _mm512_fmadd_ps(y, scale, before_y));
}

/// Sums of 32 columns and 32 rows (or 16) on tiles: the next block's products run while this one's sums are scaled.
template <bool two_rows>
FASTKV_AMX void tile_sums(const ProductShape& shape, const int8_t* a, const int8_t* b, const float* c, int32_t* sums,
                          FetchAhead& ahead) {
    const int8_t* a_lower = a + tile_rows * shape.a_stride;
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (two_rows) {
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int depth = 0; depth < shape.k; depth += tile_k, b += group_tiles_bytes) {
        amx::fetch_ahead(ahead);
        if (shape.fetches_c && depth < block / 4 * tile_k) {  // four rows in each of the first 8 steps
            amx::fetch_results(c, shape.c_stride, 4 * depth / tile_k, 4);
        }
        _tile_loadd(4, a + depth, shape.a_stride);
        _tile_stream_loadd(6, b, 64);  // passes by: pushes nothing out of the first-level cache
        if constexpr (two_rows) _tile_loadd(5, a_lower + depth, shape.a_stride);
        _tile_stream_loadd(7, b + tile_bytes, 64);
        _tile_dpbssd(0, 4, 6);
        if constexpr (two_rows) _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(1, 4, 7);
        if constexpr (two_rows) _tile_dpbssd(3, 5, 7);
    }
    constexpr size_t row_bytes = block * sizeof(int32_t);
    amx::memory_barrier();
    _tile_stored(0, sums, row_bytes);
    _tile_stored(1, sums + tile_rows, row_bytes);
    if constexpr (two_rows) {
        _tile_stored(2, sums + tile_rows * block, row_bytes);
        _tile_stored(3, sums + tile_rows * block + tile_rows, row_bytes);
    }
    amx::memory_barrier();
}

/// 32 rows of C, or 16.
FASTKV_AMX void multiply_tiles(const ProductShape& shape, int rows, const Scales& scales, const int8_t* a,
                               const int8_t* packed_b, float* c, FetchAhead& ahead) {
    alignas(64) int32_t sums[block * block];
    for (int col = 0; col < shape.n; col += block) {
        const int8_t* b = columns_from(packed_b, shape.k, col);
        if (rows == block) {
            tile_sums<true>(shape, a, b, c + col, sums, ahead);
        } else {
            tile_sums<false>(shape, a, b, c + col, sums, ahead);
        }
        for (int r = 0; r < rows; ++r) {
            const auto row = static_cast<size_t>(r);
            const int32_t* own = sums + row * block;
            store_scaled(_mm512_load_si512(own), _mm512_load_si512(own + 16), scales.a[row * scales.a_stride],
                         scales.b + col, shape.accumulate, c + row * shape.c_stride + col);
        }
    }
}

/// The sum of a row of A.
FASTKV_VNNI inline int32_t sum_of(const int8_t* row, int k) {
    __m512i sum = _mm512_setzero_si512();
    for (int i = 0; i < k; i += 64) {
        sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), _mm512_loadu_si512(row + i));
    }
    return _mm512_reduce_add_epi32(sum);
}

/// sum += unsigned · signed, four by four. By name: GCC 12 copies the sums before and after the intrinsic.
FASTKV_VNNI inline void add_products(__m512i& sum, __m512i unsigned_values, __m512i signed_values) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(unsigned_values), "v"(signed_values));
}

constexpr int vector_rows = 8;  ///< of C that stay in registers, by 32 columns

/// 32 columns of vector_rows rows of C. The instruction wants one unsigned operand: B, which is packed with 128 added,
/// and that adds 128 times the row's sum, `excess`.
FASTKV_VNNI void multiply_vectors(const ProductShape& shape, const Scales& scales, const int32_t* excess,
                                  const int8_t* a, const int8_t* b, float* c) {
    __m512i left[vector_rows], right[vector_rows];
#pragma GCC unroll vector_rows
    for (int r = 0; r < vector_rows; ++r) left[r] = right[r] = _mm512_set1_epi32(-128 * excess[r]);
    for (int depth = 0; depth < shape.k; depth += tile_k, b += group_tiles_bytes) {
        for (int four = 0; four < tile_k; four += 4) {
            const __m512i b_left = _mm512_loadu_si512(b + four * tile_cols);
            const __m512i b_right = _mm512_loadu_si512(b + tile_bytes + four * tile_cols);
#pragma GCC unroll vector_rows
            for (int r = 0; r < vector_rows; ++r) {
                int32_t values = 0;
                std::memcpy(&values, a + static_cast<size_t>(r) * shape.a_stride + depth + four, sizeof(values));
                const __m512i fours = _mm512_set1_epi32(values);
                add_products(left[r], b_left, fours);
                add_products(right[r], b_right, fours);
            }
        }
    }
#pragma GCC unroll vector_rows
    for (int r = 0; r < vector_rows; ++r) {
        const auto row = static_cast<size_t>(r);
        store_scaled(left[r], right[r], scales.a[row * scales.a_stride], scales.b, shape.accumulate,
                     c + row * shape.c_stride);
    }
}

/// 32 rows of C, or 16.
FASTKV_VNNI void multiply_rows(const ProductShape& shape, int rows, const Scales& scales, const int8_t* a,
                               const int8_t* packed_b, float* c) {
    int32_t excess[block];
    for (int r = 0; r < rows; ++r) excess[r] = sum_of(a + static_cast<size_t>(r) * shape.a_stride, shape.k);
    for (int col = 0; col < shape.n; col += block) {
        for (int r = 0; r < rows; r += vector_rows) {
            const auto row = static_cast<size_t>(r);
            const Scales own{scales.a + row * scales.a_stride, scales.a_stride, scales.b + col};
            multiply_vectors(shape, own, excess + r, a + row * shape.a_stride, columns_from(packed_b, shape.k, col),
                             c + row * shape.c_stride + col);
        }
    }
}

}  // namespace

bool available() { return way() != Way::none; }

void quantize_row(float* x, int n, int group, int8_t* target, float* scales) {
    if (way() == Way::narrow) return narrow::quantize_row(x, n, group, target, scales);
    quantize_wide(x, n, group, target, scales);
}

void pack_operand(int n, int k, const int8_t* source, size_t row_stride, int8_t* packed) {
    if (way() == Way::narrow) return narrow::pack_operand(n, k, source, row_stride, packed);
    pack_wide(n, k, source, row_stride, packed);
}

void multiply(const ProductShape& shape, const Scales& scales, const int8_t* a, const int8_t* packed_b, float* c,
              FetchAhead& ahead) {
    if (way() == Way::narrow) return narrow::multiply(shape, scales, a, packed_b, c);
    for (int first = 0; first < shape.m; first += block) {
        const auto row = static_cast<size_t>(first);
        const int rows = std::min(block, shape.m - first);
        const Scales own{scales.a + row * scales.a_stride, scales.a_stride, scales.b};
        if (way() == Way::tiles) {
            multiply_tiles(shape, rows, own, a + row * shape.a_stride, packed_b, c + row * shape.c_stride, ahead);
        } else {
            multiply_rows(shape, rows, own, a + row * shape.a_stride, packed_b, c + row * shape.c_stride);
        }
    }
}

}  // namespace fastkv::kernels::int8

#else  // another processor or system: available() says so, and nothing else is called

namespace fastkv::kernels::int8 {

bool available() { return false; }
void quantize_row(float*, int, int, int8_t*, float*) {}
void pack_operand(int, int, const int8_t*, size_t, int8_t*) {}
void multiply(const ProductShape&, const Scales&, const int8_t*, const int8_t*, float*, FetchAhead&) {}

}  // namespace fastkv::kernels::int8

#endif
