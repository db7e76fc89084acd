#include "kernels/int8_product.h"

// GCC 12's own headers leave vectors uninitialised where it does not matter, and then warn of it.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#include "kernels/amx_product.h"
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
constexpr int tile_k = 64;
constexpr size_t tile_bytes = 1024;
constexpr int group_cols = 64;
constexpr int block = 32;  ///< rows and columns of C that are computed together

bool has_vnni() {
    return max_isa() >= Isa::avx512 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

bool by_tiles() {
    static const bool yes = [] {
        unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
        constexpr unsigned amx_int8 = 1U << 25;
        return amx::available() && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & amx_int8) != 0;
    }();
    return yes;
}

}  // namespace

bool available() {
    static const bool yes = has_vnni();  // which every processor with AMX has
    return yes;
}

namespace {

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

}  // namespace

FASTKV_VNNI void quantize_row(float* x, int n, int group, int8_t* target, float* scales) {
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

FASTKV_VNNI void pack_operand(int n, int k, const int8_t* source, size_t row_stride, int8_t* packed) {
    const __m512i columns = _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                                               _mm512_set1_epi32(static_cast<int>(row_stride)));
    for (int group = 0; group < n; group += group_cols) {
        for (int depth = 0; depth < k; depth += tile_k) {
            for (int col = group; col < group + group_cols; col += tile_rows) {
                const int8_t* first = source + static_cast<size_t>(col) * row_stride + depth;
                for (int four = 0; four < tile_k; four += 4, packed += tile_k) {
                    _mm512_storeu_si512(packed, _mm512_i32gather_epi32(columns, first + four, 1));
                }
            }
        }
    }
}

namespace {

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
    for (int depth = 0; depth < shape.k; depth += tile_k, b += 4 * tile_bytes) {
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

/// 32 columns of up to 32 rows of C.
FASTKV_AMX void multiply_tiles(const ProductShape& shape, int rows, const Scales& scales, const int8_t* a,
                               const int8_t* b, float* c, FetchAhead& ahead) {
    alignas(64) int32_t sums[block * block];
    if (rows == block) {
        tile_sums<true>(shape, a, b, c, sums, ahead);
    } else {
        tile_sums<false>(shape, a, b, c, sums, ahead);
    }
    for (int r = 0; r < rows; ++r) {
        const auto row = static_cast<size_t>(r);
        const int32_t* own = sums + row * block;
        store_scaled(_mm512_load_si512(own), _mm512_load_si512(own + 16), scales.a[row * scales.a_stride], scales.b,
                     shape.accumulate, c + row * shape.c_stride);
    }
}

/// 32 columns of 8 rows of C. The instruction wants unsigned values of A: 128 more than they are, which adds 128 times
/// the sum of B's column.
FASTKV_VNNI void multiply_vectors(const ProductShape& shape, const Scales& scales, const int8_t* a, const int8_t* b,
                                  float* c) {
    constexpr int rows = 8;
    __m512i left[rows], right[rows];
    for (int r = 0; r < rows; ++r) left[r] = right[r] = _mm512_setzero_si512();
    __m512i left_excess = _mm512_setzero_si512(), right_excess = _mm512_setzero_si512();
    const __m512i sign_bits = _mm512_set1_epi32(static_cast<int>(0x80808080U));
    for (int depth = 0; depth < shape.k; depth += 4) {
        const int8_t* tile = b + static_cast<size_t>(depth / tile_k) * 4 * tile_bytes + depth % tile_k * 16;
        const __m512i b_left = _mm512_loadu_si512(tile);
        const __m512i b_right = _mm512_loadu_si512(tile + tile_bytes);
        left_excess = _mm512_dpbusd_epi32(left_excess, sign_bits, b_left);
        right_excess = _mm512_dpbusd_epi32(right_excess, sign_bits, b_right);
        for (int r = 0; r < rows; ++r) {
            int32_t four = 0;
            std::memcpy(&four, a + static_cast<size_t>(r) * shape.a_stride + depth, sizeof(four));
            const __m512i values = _mm512_xor_si512(_mm512_set1_epi32(four), sign_bits);
            left[r] = _mm512_dpbusd_epi32(left[r], values, b_left);
            right[r] = _mm512_dpbusd_epi32(right[r], values, b_right);
        }
    }
    for (int r = 0; r < rows; ++r) {
        const auto row = static_cast<size_t>(r);
        store_scaled(_mm512_sub_epi32(left[r], left_excess), _mm512_sub_epi32(right[r], right_excess),
                     scales.a[row * scales.a_stride], scales.b, shape.accumulate, c + row * shape.c_stride);
    }
}

/// 32 columns of up to 32 rows of C.
void multiply_block(const ProductShape& shape, int rows, const Scales& scales, const int8_t* a, const int8_t* b,
                    float* c, FetchAhead& ahead) {
    if (by_tiles()) return multiply_tiles(shape, rows, scales, a, b, c, ahead);
    for (int r = 0; r < rows; r += 8) {
        const auto row = static_cast<size_t>(r);
        const Scales own{scales.a + row * scales.a_stride, scales.a_stride, scales.b};
        multiply_vectors(shape, own, a + row * shape.a_stride, b, c + row * shape.c_stride);
    }
}

}  // namespace

void multiply(const ProductShape& shape, const Scales& scales, const int8_t* a, const int8_t* packed_b, float* c,
              FetchAhead& ahead) {
    for (int first = 0; first < shape.m; first += block) {
        const auto row = static_cast<size_t>(first);
        const int rows = std::min(block, shape.m - first);
        for (int col = 0; col < shape.n; col += block) {
            const int group = col / group_cols * group_cols;
            const int8_t* b = packed_b + static_cast<size_t>(group) * static_cast<size_t>(shape.k) +
                              static_cast<size_t>((col - group) / tile_rows) * tile_bytes;
            const Scales own{scales.a + row * scales.a_stride, scales.a_stride, scales.b + col};
            multiply_block(shape, rows, own, a + row * shape.a_stride, b, c + row * shape.c_stride + col, ahead);
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
