// A block of weights is b_i = d·u_i + m with unsigned integers u, so that a row's product with x_i = s·q_i is
//   Σ_blocks d·s·(Σ u_i·q_i) + m·s·(Σ q_i):
// the inner sum is what VNNI multiplies, 64 weights an instruction; the last term needs no weight but m.
#include "kernels/quantized_linear.h"

// GCC 12's own headers leave vectors uninitialised where it does not matter, and then warn of it.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

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

/// A row of x in 8 bits.
struct QuantizedRow {
    const int8_t* values;  ///< [k]
    const float* scales;   ///< [k / 4] the scale of each lane of four values
    const float* sums;     ///< [k / 32] scale · Σ values
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

/// `R` neighbouring rows of W times x: several, so that the processor always has a product to begin while others wait.
template <class Block, int R>
FASTKV_VNNI void dot(const uint8_t* row, const QuantizedRow& x, int k, float* y) {
    const int n_block = k / block_values;
    const size_t row_bytes = static_cast<size_t>(n_block) * Block::bytes;
    __m512 sum[R];
    for (int r = 0; r < R; ++r) sum[r] = _mm512_setzero_ps();
    for (int i = 0; i < k; i += chunk_values) {
        const __m512i q = _mm512_load_si512(x.values + i);
        const __m512 x_scale = _mm512_load_ps(x.scales + i / 4);
        const uint8_t* b = row + static_cast<size_t>(i / block_values) * Block::bytes;
        for (int r = 0; r < R; ++r, b += row_bytes) {
            const __m512i products = _mm512_dpbusd_epi32(_mm512_setzero_si512(), integers(Block{}, b), q);
            const __m512 scale = _mm512_mul_ps(scales<Block>(b), x_scale);
            sum[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scale, sum[r]);
        }
    }
    for (int i = 0; i < n_block; i += 16) {
        const auto mask = static_cast<__mmask16>(n_block - i >= 16 ? 0xFFFF : (1 << (n_block - i)) - 1);
        const __m512 x_sums = _mm512_maskz_loadu_ps(mask, x.sums + i);
        const uint8_t* b = row + static_cast<size_t>(i) * Block::bytes;
        for (int r = 0; r < R; ++r, b += row_bytes) sum[r] = _mm512_fmadd_ps(minima(Block{}, b, mask), x_sums, sum[r]);
    }
    for (int r = 0; r < R; ++r) y[r] = _mm512_reduce_add_ps(sum[r]);
}

template <class Block>
void rows_of(const QuantizedMatrix& w, const QuantizedRow& x, int first, int last, float* y) {
    const size_t row_bytes = static_cast<size_t>(w.k / block_values) * Block::bytes;
    const auto* data = static_cast<const uint8_t*>(w.data);
    constexpr int together = 4;
    int row = first;
    for (; row + together <= last; row += together) {
        dot<Block, together>(data + static_cast<size_t>(row) * row_bytes, x, w.k, y + row);
    }
    for (; row < last; ++row) dot<Block, 1>(data + static_cast<size_t>(row) * row_bytes, x, w.k, y + row);
}

/// y[first, last) = rows of W times x.
void multiply_rows(const QuantizedMatrix& w, const QuantizedRow& x, int first, int last, float* y) {
    switch (w.type) {
        case BlockType::q4_0: return rows_of<Q40>(w, x, first, last, y);
        case BlockType::q4_1: return rows_of<Q41>(w, x, first, last, y);
        case BlockType::q5_0: return rows_of<Q50>(w, x, first, last, y);
        case BlockType::q8_0: return rows_of<Q80>(w, x, first, last, y);
    }
}

/// x, normalised if that is wanted, in 8 bits: the largest value of a block is ±127.
FASTKV_VNNI QuantizedRow quantize(const float* x, const RmsNorm& norm, int k) {
    static thread_local AlignedBuffer normalized_memory;  // [k]
    static thread_local AlignedBuffer memory;             // scales [k / 4], sums [k / 32], values [k]
    if (norm.weight != nullptr) {
        auto* normalized = normalized_memory.reserve_as<float>(static_cast<size_t>(k));
        normalize_row(x, k, norm.weight, norm.eps, GemmType::f32, normalized, k);
        x = normalized;
    }
    const auto n = static_cast<size_t>(k);
    auto* scale = memory.reserve_as<float>(n / 4 + n / 4 + n / 32);
    auto* values = reinterpret_cast<int8_t*>(scale + n / 4);
    float* sums = scale + n / 2;
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
    return {values, scale, sums};
}

}  // namespace

void quantized_linear(std::span<const QuantizedOutput> outputs, const RmsNorm& norm, const float* x, int ith, int nth) {
    const QuantizedRow row = quantize(x, norm, outputs.front().weights.k);
    for (const QuantizedOutput& output : outputs) {
        const int64_t n = output.weights.n;
        const int first = static_cast<int>(n * ith / nth);
        const int last = static_cast<int>(n * (ith + 1) / nth);
        multiply_rows(output.weights, row, first, last, output.y);
        for (int i = first; output.base != nullptr && i < last; ++i) output.y[i] += output.base[i];
    }
}

void quantized_gate(const QuantizedGate& layer, const float* x, float* y, int ith, int nth) {
    static thread_local AlignedBuffer up_memory;  // [n_ff]
    const QuantizedRow row = quantize(x, layer.norm, layer.gate.k);
    const int64_t n = layer.gate.n;
    const int first = static_cast<int>(n * ith / nth);
    const int last = static_cast<int>(n * (ith + 1) / nth);
    auto* up = up_memory.reserve_as<float>(static_cast<size_t>(n));
    multiply_rows(layer.gate, row, first, last, y);
    multiply_rows(layer.up, row, first, last, up);
    gate_row(y + first, up + first, last - first, GemmType::f32, y + first, last - first);
}

}  // namespace fastkv::kernels

#else  // other processors: quantized_available() says so, and nothing else is called

namespace fastkv::kernels {

bool quantized_available() { return false; }
void quantized_linear(std::span<const QuantizedOutput>, const RmsNorm&, const float*, int, int) {}
void quantized_gate(const QuantizedGate&, const float*, float*, int, int) {}

}  // namespace fastkv::kernels

#endif
