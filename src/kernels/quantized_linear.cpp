// A block of weights is b_i = d·u_i + m with unsigned integers u, so that a row's product with x_i = s·q_i is
//   Σ_blocks d·s·(Σ u_i·q_i) + m·s·(Σ q_i):
// the inner sum is what VNNI multiplies, 64 weights an instruction; the last term needs no weight but m. Unpacking u
// and d is most of the work for one row of x; several rows share it.
#include "kernels/quantized_linear.h"

// GCC 12's own headers leave vectors uninitialised where it does not matter, and then warn of it.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/aligned_buffer.h"
#include "kernels/simd.h"
#include "kernels/vector_ops.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define FASTKV_VNNI __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c,fma")))

namespace fastkv::kernels {

bool quantized_available() {
    static const bool yes = max_isa() >= Isa::avx512 && __builtin_cpu_supports("avx512vnni") &&
                            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                            __builtin_cpu_supports("avx512vl");
    return yes;
}

namespace {

constexpr int block_values = 32;
constexpr int chunk_values = 64;  ///< two blocks: one vector of bytes

/// Rows of x in 8 bits.
struct QuantizedRows {
    const int8_t* values;  ///< [m][k]
    const float* scales;   ///< [m][k / 4] the scale of each lane of four values
    const float* sums;     ///< [m][k / 32] scale · Σ values
    int k;

    QuantizedRows from(int row) const {
        const auto at = static_cast<size_t>(row) * static_cast<size_t>(k);
        return {values + at, scales + at / 4, sums + at / 32, k};
    }
};

/// The blocks that differ in how they hold d, m and the integers.
struct Q40 {
    static constexpr size_t bytes = 18, at_values = 2;
    static constexpr float offset = -8;
};
struct Q41 {
    static constexpr size_t bytes = 20, at_values = 4;
};
struct Q50 {
    static constexpr size_t bytes = 22, at_bits = 2, at_values = 6;
    static constexpr float offset = -16;
};
struct Q80 {
    static constexpr size_t bytes = 34, at_values = 2;
    static constexpr float offset = -128;
};

/// The nibbles of two blocks: value j is the low half of byte j, value j + 16 the high half.
FASTKV_VNNI inline __m512i nibbles(const uint8_t* first, const uint8_t* second) {
    const __m256i a = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(first)));
    const __m256i b = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(second)));
    const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
    const __m512i shifts = _mm512_set_epi64(4, 4, 0, 0, 4, 4, 0, 0);
    return _mm512_and_si512(_mm512_srlv_epi64(both, shifts), _mm512_set1_epi8(0x0F));
}

/// The unsigned integers of two neighbouring blocks.
FASTKV_VNNI inline __m512i integers(Q40, const uint8_t* b) {
    return nibbles(b + Q40::at_values, b + Q40::bytes + Q40::at_values);
}
FASTKV_VNNI inline __m512i integers(Q41, const uint8_t* b) {
    return nibbles(b + Q41::at_values, b + Q41::bytes + Q41::at_values);
}
FASTKV_VNNI inline __m512i integers(Q50, const uint8_t* b) {
    uint32_t bits[2];
    std::memcpy(bits, b + Q50::at_bits, sizeof(uint32_t));
    std::memcpy(bits + 1, b + Q50::bytes + Q50::at_bits, sizeof(uint32_t));
    const __m512i low = nibbles(b + Q50::at_values, b + Q50::bytes + Q50::at_values);
    const __mmask64 fifth = static_cast<uint64_t>(bits[1]) << 32 | bits[0];
    return _mm512_mask_add_epi8(low, fifth, low, _mm512_set1_epi8(16));
}
FASTKV_VNNI inline __m512i integers(Q80, const uint8_t* b) {
    const __m256i first = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + Q80::at_values));
    const __m256i second = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + Q80::bytes + Q80::at_values));
    const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
    return _mm512_xor_si512(both, _mm512_set1_epi8(static_cast<char>(0x80)));  // + 128
}

/// d of two neighbouring blocks, each in the eight lanes of its block.
template <class Block>
FASTKV_VNNI inline __m512 scales(const uint8_t* b) {
    int16_t first = 0;
    int16_t second = 0;
    std::memcpy(&first, b, sizeof(first));
    std::memcpy(&second, b + Block::bytes, sizeof(second));
    return _mm512_cvtph_ps(_mm256_set_m128i(_mm_set1_epi16(second), _mm_set1_epi16(first)));
}

/// d (and behind it, in Q4_1, m) of up to 16 blocks, a word each.
template <class Block>
FASTKV_VNNI inline __m512i head_words(const uint8_t* b, __mmask16 mask) {
    const __m512i index = _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                                             _mm512_set1_epi32(Block::bytes));
    return _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), mask, index, b, 1);
}

/// m of up to 16 blocks.
template <class Block>
FASTKV_VNNI inline __m512 minima(Block, const uint8_t* b, __mmask16 mask) {
    const __m512 d = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(head_words<Block>(b, mask)));
    return _mm512_mul_ps(d, _mm512_set1_ps(Block::offset));
}
FASTKV_VNNI inline __m512 minima(Q41, const uint8_t* b, __mmask16 mask) {
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(head_words<Q41>(b, mask), 16)));
}

/// `R` neighbouring rows of W times the first `M` rows of x: several, so that the processor always has a product to
/// begin while others wait. y is the value of the first row of both.
template <class Block, int R, int M>
FASTKV_VNNI void dot(const uint8_t* row, const QuantizedRows& x, Rows y) {
    const int n_block = x.k / block_values;
    const size_t row_bytes = static_cast<size_t>(n_block) * Block::bytes;
    const auto n = static_cast<size_t>(x.k);
    __m512 sum[R][M];
    for (int r = 0; r < R; ++r) {
        for (int m = 0; m < M; ++m) sum[r][m] = _mm512_setzero_ps();
    }
    for (size_t i = 0; i < n; i += chunk_values) {
        const uint8_t* b = row + i / block_values * Block::bytes;
        for (int r = 0; r < R; ++r, b += row_bytes) {
            const __m512i u = integers(Block{}, b);
            const __m512 d = scales<Block>(b);
            for (int m = 0; m < M; ++m) {
                const size_t at = static_cast<size_t>(m) * n + i;
                const __m512i products =
                    _mm512_dpbusd_epi32(_mm512_setzero_si512(), u, _mm512_load_si512(x.values + at));
                const __m512 scale = _mm512_mul_ps(d, _mm512_load_ps(x.scales + at / 4));
                sum[r][m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scale, sum[r][m]);
            }
        }
    }
    for (int i = 0; i < n_block; i += 16) {
        const auto mask = static_cast<__mmask16>(n_block - i >= 16 ? 0xFFFF : (1 << (n_block - i)) - 1);
        const uint8_t* b = row + static_cast<size_t>(i) * Block::bytes;
        for (int r = 0; r < R; ++r, b += row_bytes) {
            const __m512 minimum = minima(Block{}, b, mask);
            for (int m = 0; m < M; ++m) {
                const __m512 x_sums = _mm512_maskz_loadu_ps(mask, x.sums + m * n_block + i);
                sum[r][m] = _mm512_fmadd_ps(minimum, x_sums, sum[r][m]);
            }
        }
    }
    for (int m = 0; m < M; ++m) {
        for (int r = 0; r < R; ++r) y.data[static_cast<size_t>(m) * y.stride + r] = _mm512_reduce_add_ps(sum[r][m]);
    }
}

/// `R` rows of W, as they come from memory, times m rows of x: as many of these at a time as the registers hold.
template <class Block, int R>
void dot_all(const uint8_t* row, const QuantizedRows& x, int m, Rows y) {
    constexpr int most = R == 1 ? 8 : 4;
    int done = 0;
    const auto next = [&](auto count) {
        dot<Block, R, count.value>(row, x.from(done), {y.data + static_cast<size_t>(done) * y.stride, y.stride});
        done += count.value;
    };
    while (m - done >= most) next(std::integral_constant<int, most>{});
    if (m - done >= 4) next(std::integral_constant<int, 4>{});
    if (m - done == 3) next(std::integral_constant<int, 3>{});
    if (m - done == 2) next(std::integral_constant<int, 2>{});
    if (m - done == 1) next(std::integral_constant<int, 1>{});
}

template <class Block>
void rows_of(const QuantizedMatrix& w, const QuantizedRows& x, int m, int first, int last, Rows y) {
    const size_t row_bytes = static_cast<size_t>(w.k / block_values) * Block::bytes;
    const auto* data = static_cast<const uint8_t*>(w.data);
    constexpr int together = 4;
    int row = first;
    for (; row + together <= last; row += together) {
        dot_all<Block, together>(data + static_cast<size_t>(row) * row_bytes, x, m, {y.data + row, y.stride});
    }
    for (; row < last; ++row) {
        dot_all<Block, 1>(data + static_cast<size_t>(row) * row_bytes, x, m, {y.data + row, y.stride});
    }
}

/// y[m][first, last) = m rows of x times rows [first, last) of W.
void multiply_rows(const QuantizedMatrix& w, const QuantizedRows& x, int m, int first, int last, Rows y) {
    switch (w.type) {
        case BlockType::q4_0: return rows_of<Q40>(w, x, m, first, last, y);
        case BlockType::q4_1: return rows_of<Q41>(w, x, m, first, last, y);
        case BlockType::q5_0: return rows_of<Q50>(w, x, m, first, last, y);
        case BlockType::q8_0: return rows_of<Q80>(w, x, m, first, last, y);
    }
}

/// One row in 8 bits: the largest value of a block is ±127.
FASTKV_VNNI void quantize_row(const float* x, int k, int8_t* values, float* scale, float* sums) {
    for (int i = 0; i < k; i += block_values) {
        const __m512 a = _mm512_loadu_ps(x + i);
        const __m512 b = _mm512_loadu_ps(x + i + 16);
        const float largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
        const float step = largest / 127.0F;
        const __m512 inverse = _mm512_set1_ps(largest > 0 ? 127.0F / largest : 0.0F);
        const __m512i qa = _mm512_cvtps_epi32(_mm512_mul_ps(a, inverse));
        const __m512i qb = _mm512_cvtps_epi32(_mm512_mul_ps(b, inverse));
        _mm_store_si128(reinterpret_cast<__m128i*>(values + i), _mm512_cvtsepi32_epi8(qa));
        _mm_store_si128(reinterpret_cast<__m128i*>(values + i + 16), _mm512_cvtsepi32_epi8(qb));
        sums[i / block_values] = step * static_cast<float>(_mm512_reduce_add_epi32(_mm512_add_epi32(qa, qb)));
        _mm256_storeu_ps(scale + i / 4, _mm256_set1_ps(step));
    }
}

/// The rows x, normalised if that is wanted, in 8 bits.
QuantizedRows quantize(ConstRows x, const RmsNorm& norm, int m, int k) {
    static thread_local AlignedBuffer normalized_memory;  // [k]
    static thread_local AlignedBuffer memory;             // scales [m][k / 4], values [m][k], sums [m][k / 32]
    const auto n = static_cast<size_t>(k);
    const size_t all = static_cast<size_t>(m) * n;
    auto* scale = memory.reserve_as<float>(all / 4 + all / 4 + all / 32);
    auto* values = reinterpret_cast<int8_t*>(scale + all / 4);
    float* sums = scale + all / 2;
    for (size_t row = 0; row < static_cast<size_t>(m); ++row) {
        const float* from = x.data + row * x.stride;
        if (norm.weight != nullptr) {
            auto* normalized = normalized_memory.reserve_as<float>(n);
            normalize_row(from, k, norm.weight, norm.eps, GemmType::f32, normalized, k);
            from = normalized;
        }
        quantize_row(from, k, values + row * n, scale + row * n / 4, sums + row * n / 32);
    }
    return {values, scale, sums, k};
}

}  // namespace

void quantized_linear(std::span<const QuantizedOutput> outputs, const RmsNorm& norm, ConstRows x, int m, int ith,
                      int nth) {
    const QuantizedRows rows = quantize(x, norm, m, outputs.front().weights.k);
    for (const QuantizedOutput& output : outputs) {
        const int64_t n = output.weights.n;
        const int first = static_cast<int>(n * ith / nth);
        const int last = static_cast<int>(n * (ith + 1) / nth);
        multiply_rows(output.weights, rows, m, first, last, output.y);
        for (size_t row = 0; output.base.data != nullptr && row < static_cast<size_t>(m); ++row) {
            const float* base = output.base.data + row * output.base.stride;
            float* y = output.y.data + row * output.y.stride;
            for (int i = first; i < last; ++i) y[i] += base[i];
        }
    }
}

void quantized_gate(const QuantizedGate& layer, ConstRows x, Rows y, int m, int ith, int nth) {
    static thread_local AlignedBuffer up_memory;  // [m][n_ff]
    const QuantizedRows rows = quantize(x, layer.norm, m, layer.gate.k);
    const auto n = static_cast<size_t>(layer.gate.n);
    const int first = static_cast<int>(layer.gate.n * static_cast<int64_t>(ith) / nth);
    const int last = static_cast<int>(layer.gate.n * static_cast<int64_t>(ith + 1) / nth);
    auto* up = up_memory.reserve_as<float>(static_cast<size_t>(m) * n);
    multiply_rows(layer.gate, rows, m, first, last, y);
    multiply_rows(layer.up, rows, m, first, last, {up, n});
    for (size_t row = 0; row < static_cast<size_t>(m); ++row) {
        float* out = y.data + row * y.stride + first;
        gate_row(out, up + row * n + first, last - first, GemmType::f32, out, last - first);
    }
}

}  // namespace fastkv::kernels

#else  // other processors: quantized_available() says so, and nothing else is called

namespace fastkv::kernels {

bool quantized_available() { return false; }
void quantized_linear(std::span<const QuantizedOutput>, const RmsNorm&, ConstRows, int, int, int) {}
void quantized_gate(const QuantizedGate&, ConstRows, Rows, int, int, int) {}

}  // namespace fastkv::kernels

#endif
