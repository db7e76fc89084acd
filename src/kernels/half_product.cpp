#include "kernels/half_product.h"

// GCC 12's own headers leave vectors uninitialised where it does not matter, and then warn of it.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#if defined(__x86_64__) && defined(__linux__) && __has_include(<avx512fp16intrin.h>)

#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>

#include "kernels/aligned_buffer.h"
#include "kernels/panels.h"
#include "kernels/simd.h"

#define FASTKV_HALF __attribute__((target("avx512fp16,avx512f,avx512bw,avx512dq,avx512vl")))

namespace fastkv::kernels::half {

namespace {

using panels::panel_cols;

/// The largest of a row of A lies in [8, 16), that of a panel of B in [16, 32): 96 products stay below 65,504, and what
/// is 2^17 or 2^18 times smaller still has all of bf16's bits.
constexpr int row_exponent = 3;
constexpr int panel_exponent = 4;
static_assert(panels::max_depth << (row_exponent + 1 + panel_exponent + 1) < 65504);

/// Rows of C that stay in registers, by all columns of a panel.
constexpr int block_rows = 8;
static_assert(product_m_step % block_rows == 0);

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

/// 32 bf16 as float16, what is too small as zero.
FASTKV_HALF inline __m512i halve(__m512i values, __m512i offset) {
    const __m512i shifted = _mm512_slli_epi16(_mm512_subs_epu16(magnitudes(values), offset), 3);
    const __m512i sign = _mm512_set1_epi32(static_cast<int>(0x80008000U));
    return _mm512_ternarylogic_epi32(sign, values, shifted, 0xEA);  // sign & values | shifted
}

FASTKV_HALF inline __m512i offset_of(Halving halving) {
    return _mm512_set1_epi16(static_cast<int16_t>(halving.offset << 7));
}

/// The largest of 32 magnitudes.
FASTKV_HALF inline uint32_t largest_of(__m512i magnitudes) {
    const __m512i lower = _mm512_and_si512(magnitudes, _mm512_set1_epi32(0xFFFF));
    return _mm512_reduce_max_epu32(_mm512_max_epu32(lower, _mm512_srli_epi32(magnitudes, 16)));
}

/// A panel, [depth / 2][panel_cols][2] bf16, as float16 [depth][panel_cols]. Returns what they are to be
/// multiplied by.
FASTKV_HALF float halve_columns(const uint32_t* pairs, int depth, uint16_t* target) {
    __m512i largest = _mm512_setzero_si512();
    for (int i = 0; i < depth / 2 * panel_cols; i += 16) {
        largest = _mm512_max_epu16(largest, magnitudes(_mm512_loadu_si512(pairs + i)));
    }
    const Halving halving = Halving::of(largest_of(largest), panel_exponent);
    const __m512i offset = offset_of(halving);
    for (int k = 0; k < depth; k += 2, pairs += panel_cols, target += 2 * panel_cols) {
        for (int col = 0; col < panel_cols; col += 16) {
            const __m512i both = halve(_mm512_loadu_si512(pairs + col), offset);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(target + col), _mm512_cvtepi32_epi16(both));
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(target + panel_cols + col),
                                _mm512_cvtepi32_epi16(_mm512_srli_epi32(both, 16)));
        }
    }
    return halving.inverse;
}

/// A row of k bf16.
FASTKV_HALF Halving halving_of_row(const uint16_t* row, int k) {
    __m512i largest = _mm512_setzero_si512();
    for (int i = 0; i < k; i += 32) largest = _mm512_max_epu16(largest, magnitudes(_mm512_loadu_si512(row + i)));
    return Halving::of(largest_of(largest), row_exponent);
}

/// A row of bf16 as float16, each value twice in a word, which loads can then give to a whole vector.
FASTKV_HALF void halve_row(const uint16_t* source, int depth, Halving halving, uint32_t* target) {
    alignas(64) static constexpr uint16_t twice[64] = {0,  0,  1,  1,  2,  2,  3,  3,  4,  4,  5,  5,  6,  6,  7,  7,
                                                       8,  8,  9,  9,  10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15,
                                                       16, 16, 17, 17, 18, 18, 19, 19, 20, 20, 21, 21, 22, 22, 23, 23,
                                                       24, 24, 25, 25, 26, 26, 27, 27, 28, 28, 29, 29, 30, 30, 31, 31};
    const __m512i lower = _mm512_load_si512(twice), upper = _mm512_load_si512(twice + 32);
    const __m512i offset = offset_of(halving);
    for (int k = 0; k < depth; k += 32) {
        const __m512i values = halve(_mm512_loadu_si512(source + k), offset);
        _mm512_storeu_si512(target + k, _mm512_permutexvar_epi16(lower, values));
        _mm512_storeu_si512(target + k + 16, _mm512_permutexvar_epi16(upper, values));
    }
}

/// 32 sums of a row, times their scale, (added) to C.
FASTKV_HALF inline void store_sums(__m512h sums, __m512 scale, bool accumulate, float* c) {
    const __m512i bits = _mm512_castph_si512(sums);
    const __m512 left = _mm512_cvtxph_ps(_mm256_castsi256_ph(_mm512_castsi512_si256(bits)));
    const __m512 right = _mm512_cvtxph_ps(_mm256_castsi256_ph(_mm512_extracti64x4_epi64(bits, 1)));
    const __m512 before_left = accumulate ? _mm512_loadu_ps(c) : _mm512_setzero_ps();
    const __m512 before_right = accumulate ? _mm512_loadu_ps(c + 16) : _mm512_setzero_ps();
    _mm512_storeu_ps(c, _mm512_fmadd_ps(left, scale, before_left));
    _mm512_storeu_ps(c + 16, _mm512_fmadd_ps(right, scale, before_right));
}

/// block_rows rows of C: A [rows][depth] words of two equal float16, B [depth][panel_cols].
FASTKV_HALF void multiply_block(const uint32_t* a, const Halving* a_halvings, const uint16_t* b, float b_scale,
                                int depth, bool accumulate, float* c, size_t c_stride) {
    __m512h left[block_rows], right[block_rows];
#pragma GCC unroll block_rows
    for (int r = 0; r < block_rows; ++r) left[r] = right[r] = _mm512_setzero_ph();
    for (int k = 0; k < depth; ++k, b += panel_cols) {
        const __m512h b_left = _mm512_loadu_ph(b), b_right = _mm512_loadu_ph(b + 32);
#pragma GCC unroll block_rows
        for (int r = 0; r < block_rows; ++r) {
            const __m512h value = _mm512_castsi512_ph(_mm512_set1_epi32(static_cast<int>(a[r * depth + k])));
            left[r] = _mm512_fmadd_ph(value, b_left, left[r]);
            right[r] = _mm512_fmadd_ph(value, b_right, right[r]);
        }
    }
#pragma GCC unroll block_rows
    for (int r = 0; r < block_rows; ++r) {
        const __m512 scale = _mm512_set1_ps(a_halvings[r].inverse * b_scale);
        float* row = c + static_cast<size_t>(r) * c_stride;
        store_sums(left[r], scale, accumulate, row);
        store_sums(right[r], scale, accumulate, row + 32);
    }
}

/// What a thread keeps of the rows of a product.
struct RowMemory {
    AlignedBuffer rows;      ///< [m][depth] words of two equal float16
    AlignedBuffer halvings;  ///< [m]
};

/// See panels::multiply().
class Kernel {
  public:
    static constexpr int block_rows = half::block_rows;

    void set_rows(const ProductShape& shape, const uint16_t* a) {
        static thread_local RowMemory memory;
        m_ = static_cast<size_t>(shape.m);
        a_ = a;
        a_stride_ = shape.a_stride;
        rows_ = memory.rows.reserve_as<uint32_t>(m_ * panels::max_depth);
        halvings_ = memory.halvings.reserve_as<Halving>(m_);
        for (size_t r = 0; r < m_; ++r) {
            halvings_[r] = halving_of_row(a + r * a_stride_, shape.k);
        }
    }

    void load_rows(int begin, int depth) {
        for (size_t r = 0; r < m_; ++r) {
            halve_row(a_ + r * a_stride_ + begin, depth, halvings_[r], rows_ + r * static_cast<size_t>(depth));
        }
    }

    void load_columns(const uint32_t* panel, int depth) { column_scale_ = halve_columns(panel, depth, columns_); }

    void multiply(int row, int depth, bool accumulate, float* c, size_t c_stride) const {
        multiply_block(rows_ + static_cast<size_t>(row) * static_cast<size_t>(depth), halvings_ + row, columns_,
                       column_scale_, depth, accumulate, c, c_stride);
    }

  private:
    size_t m_ = 0;
    const uint16_t* a_ = nullptr;
    size_t a_stride_ = 0;
    uint32_t* rows_ = nullptr;
    Halving* halvings_ = nullptr;
    alignas(64) uint16_t columns_[panels::max_depth * panel_cols];  ///< [depth][panel_cols] float16
    float column_scale_ = 0;
};

}  // namespace

bool available() {
    static const bool yes = max_isa() == Isa::amx && __builtin_cpu_supports("avx512fp16");
    return yes;
}

void multiply(const ProductShape& shape, const void* a, const void* packed_b, float* c, const FetchAhead& ahead) {
    Kernel kernel;
    panels::multiply(kernel, shape, a, packed_b, c, ahead);
}

}  // namespace fastkv::kernels::half

#else  // another processor or system: available() says so, and nothing else is called

namespace fastkv::kernels::half {

bool available() { return false; }
void multiply(const ProductShape&, const void*, const void*, float*, const FetchAhead&) {}

}  // namespace fastkv::kernels::half

#endif
