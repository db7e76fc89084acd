#include "kernels/int8_narrow.h"

#if defined(__x86_64__) && defined(__linux__) && __has_include(<avxvnniintrin.h>)

#include <cpuid.h>
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "kernels/int8_layout.h"

#define FASTKV_AVX_VNNI __attribute__((target("avx2,fma,avxvnni")))

namespace fastkv::kernels::int8::narrow {

bool available() {
    static const bool yes = [] {
        unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
        constexpr unsigned avx_vnni = 1U << 4;
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
               __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax & avx_vnni) != 0;
    }();
    return yes;
}

namespace {

/// A step of the rotation within a vector: each value becomes the sum, or the difference, with its partner.
template <int upper>
FASTKV_AVX_VNNI inline __m256 butterfly(__m256 x, __m256 partner) {
    return _mm256_blend_ps(_mm256_add_ps(x, partner), _mm256_sub_ps(partner, x), upper);
}

/// The fast Hadamard transform of 8 values.
FASTKV_AVX_VNNI inline __m256 rotate_vector(__m256 x) {
    x = butterfly<0xAA>(x, _mm256_permute_ps(x, 0xB1));
    x = butterfly<0xCC>(x, _mm256_permute_ps(x, 0x4E));
    return butterfly<0xF0>(x, _mm256_permute2f128_ps(x, x, 1));
}

constexpr int rotated_vectors = rotated_values / 8;

/// Of 64 values, divided by 8, in place; returns the largest magnitudes.
FASTKV_AVX_VNNI inline __m256 rotate(float* x) {
    __m256 y[rotated_vectors];
    for (int i = 0; i < rotated_vectors; ++i) y[i] = rotate_vector(_mm256_loadu_ps(x + 8 * i));
    for (int distance = 1; distance < rotated_vectors; distance *= 2) {
        for (int i = 0; i < rotated_vectors; ++i) {
            if ((i & distance) != 0) continue;
            const __m256 sum = _mm256_add_ps(y[i], y[i + distance]);
            y[i + distance] = _mm256_sub_ps(y[i], y[i + distance]);
            y[i] = sum;
        }
    }
    const __m256 sign = _mm256_set1_ps(-0.0F);
    __m256 largest = _mm256_setzero_ps();
    for (int i = 0; i < rotated_vectors; ++i) {
        y[i] = _mm256_mul_ps(y[i], _mm256_set1_ps(0.125F));
        _mm256_storeu_ps(x + 8 * i, y[i]);
        largest = _mm256_max_ps(largest, _mm256_andnot_ps(sign, y[i]));
    }
    return largest;
}

FASTKV_AVX_VNNI inline float max_of_lanes(__m256 x) {
    __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_max_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
}

/// 32 values, multiplied and rounded.
FASTKV_AVX_VNNI inline void round_values(const float* x, __m256 factor, int8_t* target) {
    __m256i words[4];
    for (int i = 0; i < 4; ++i) words[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), factor));
    const __m256i shorts[2] = {_mm256_packs_epi32(words[0], words[1]), _mm256_packs_epi32(words[2], words[3])};
    // packing works within halves of 128 bits: the fours of values come out as 0 2 4 6 1 3 5 7
    const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(shorts[0], shorts[1]), in_order);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target), bytes);
}

}  // namespace

FASTKV_AVX_VNNI void quantize_row(float* x, int n, int group, int8_t* target, float* scales) {
    for (int begin = 0; begin < n; begin += group, ++scales) {
        const int end = std::min(n, begin + group);
        __m256 largest = _mm256_setzero_ps();
        for (int i = begin; i < end; i += rotated_values) largest = _mm256_max_ps(largest, rotate(x + i));
        const float limit = max_of_lanes(largest);
        *scales = limit / 127.0F;
        const __m256 inverse = _mm256_set1_ps(limit > 0 ? 127.0F / limit : 0.0F);
        for (int i = begin; i < end; i += 32) round_values(x + i, inverse, target + i);
    }
}

FASTKV_AVX_VNNI void pack_operand(int n, int k, const int8_t* source, size_t row_stride, int8_t* packed) {
    const __m256i columns =
        _mm256_mullo_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(static_cast<int>(row_stride)));
    const __m256i offset = _mm256_set1_epi32(sign_bits);
    for (int group = 0; group < n; group += group_cols) {
        for (int depth = 0; depth < k; depth += tile_k) {
            for (int col = group; col < group + group_cols; col += tile_cols) {
                for (int four = 0; four < tile_k; four += 4) {
                    for (int half = 0; half < tile_cols; half += 8, packed += 32) {
                        const int8_t* first = source + static_cast<size_t>(col + half) * row_stride + depth + four;
                        const __m256i values = _mm256_i32gather_epi32(reinterpret_cast<const int*>(first), columns, 1);
                        _mm256_storeu_si256(reinterpret_cast<__m256i*>(packed), _mm256_xor_si256(values, offset));
                    }
                }
            }
        }
    }
}

namespace {

/// sum += unsigned · signed, four by four.
FASTKV_AVX_VNNI inline void add_products(__m256i& sum, __m256i unsigned_values, __m256i signed_values) {
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(unsigned_values), "x"(signed_values));
}

/// The sum of a row of A.
FASTKV_AVX_VNNI inline int32_t sum_of(const int8_t* row, int k) {
    __m256i sum = _mm256_setzero_si256();
    for (int i = 0; i < k; i += 32) {
        add_products(sum, _mm256_set1_epi8(1), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + i)));
    }
    int32_t lanes[8];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), sum);
    int32_t total = 0;
    for (const int32_t lane : lanes) total += lane;
    return total;
}

/// 8 sums of a row, as they are meant, to where they go.
FASTKV_AVX_VNNI inline void store_scaled(__m256i sums, float a, const float* b, bool accumulate, float* c) {
    const __m256 x = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_loadu_ps(b));
    const __m256 before = accumulate ? _mm256_loadu_ps(c) : _mm256_setzero_ps();
    _mm256_storeu_ps(c, _mm256_fmadd_ps(x, _mm256_set1_ps(a), before));
}

constexpr int block_rows = 4;  ///< of C that stay in registers, by the columns of a tile

/// block_rows rows of C by 16 columns. The instruction wants one unsigned operand: B, which is packed with 128 added,
/// and that adds 128 times the row's sum, `excess`.
FASTKV_AVX_VNNI void multiply_block(const ProductShape& shape, const Scales& scales, const int32_t* excess,
                                    const int8_t* a, const int8_t* b, float* c) {
    __m256i left[block_rows], right[block_rows];
#pragma GCC unroll block_rows
    for (int r = 0; r < block_rows; ++r) left[r] = right[r] = _mm256_set1_epi32(-128 * excess[r]);
    for (int depth = 0; depth < shape.k; depth += tile_k, b += group_tiles_bytes) {
        for (int four = 0; four < tile_k; four += 4) {
            const auto* columns = reinterpret_cast<const __m256i*>(b + four * tile_cols);
            const __m256i b_left = _mm256_loadu_si256(columns), b_right = _mm256_loadu_si256(columns + 1);
#pragma GCC unroll block_rows
            for (int r = 0; r < block_rows; ++r) {
                int32_t values = 0;
                std::memcpy(&values, a + static_cast<size_t>(r) * shape.a_stride + depth + four, sizeof(values));
                const __m256i fours = _mm256_set1_epi32(values);
                add_products(left[r], b_left, fours);
                add_products(right[r], b_right, fours);
            }
        }
    }
#pragma GCC unroll block_rows
    for (int r = 0; r < block_rows; ++r) {
        const auto row = static_cast<size_t>(r);
        const float scale = scales.a[row * scales.a_stride];
        store_scaled(left[r], scale, scales.b, shape.accumulate, c + row * shape.c_stride);
        store_scaled(right[r], scale, scales.b + 8, shape.accumulate, c + row * shape.c_stride + 8);
    }
}

constexpr int strip_rows = 32;  ///< that use a tile's columns while these are in the first-level cache

}  // namespace

void multiply(const ProductShape& shape, const Scales& scales, const int8_t* a, const int8_t* packed_b, float* c) {
    int32_t excess[strip_rows];
    for (int first = 0; first < shape.m; first += strip_rows) {
        const int rows = std::min(strip_rows, shape.m - first);
        const int8_t* strip = a + static_cast<size_t>(first) * shape.a_stride;
        for (int r = 0; r < rows; ++r) excess[r] = sum_of(strip + static_cast<size_t>(r) * shape.a_stride, shape.k);
        for (int col = 0; col < shape.n; col += tile_cols) {
            const int8_t* b = columns_from(packed_b, shape.k, col);
            for (int r = 0; r < rows; r += block_rows) {
                const auto row = static_cast<size_t>(first + r);
                const Scales own{scales.a + row * scales.a_stride, scales.a_stride, scales.b + col};
                multiply_block(shape, own, excess + r, strip + static_cast<size_t>(r) * shape.a_stride, b,
                               c + row * shape.c_stride + col);
            }
        }
    }
}

}  // namespace fastkv::kernels::int8::narrow

#else  // another processor or system: available() says so, and nothing else is called

namespace fastkv::kernels::int8::narrow {

bool available() { return false; }
void quantize_row(float*, int, int, int8_t*, float*) {}
void pack_operand(int, int, const int8_t*, size_t, int8_t*) {}
void multiply(const ProductShape&, const Scales&, const int8_t*, const int8_t*, float*) {}

}  // namespace fastkv::kernels::int8::narrow

#endif
