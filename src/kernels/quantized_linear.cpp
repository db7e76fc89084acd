// A block of weights is b_i = d·u_i + m with unsigned integers u, so that a row's product with x_i = s·q_i is
//   Σ_blocks d·s·(Σ u_i·q_i) + m·s·(Σ q_i):
// the inner sum is what VNNI multiplies, 64 weights an instruction; the last term needs no weight but m. Four rows of W
// are read in step, four blocks of each at a time: their 16 scales fill a vector. For one row of x memory is the limit;
// more of them share the unpacking.
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
constexpr int tile_blocks = 4;  ///< blocks whose integers fill two vectors of bytes
constexpr int tile_values = tile_blocks * block_values;
constexpr int tile_rows = 4;  ///< rows of W at a time: 16 scales of a tile fill a vector

/// Rows of x in 8 bits, in whole tiles; behind a row's end scales and sums are 0.
struct QuantizedRows {
    const int8_t* values;  ///< [m][n_tile][2][4][16] of four blocks the first halves, then the second
    const float* scales;   ///< [m][n_tile][4]
    const float* sums;     ///< [m][n_tile][4] scale · Σ values
    int k;

    size_t n_tile() const { return static_cast<size_t>((k + tile_values - 1) / tile_values); }
    QuantizedRows from(int row) const {
        const size_t tiles = static_cast<size_t>(row) * n_tile();
        return {values + tiles * tile_values, scales + tiles * tile_blocks, sums + tiles * tile_blocks, k};
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

/// Where a row's four blocks of a tile begin. In the last tile of a row, blocks behind the end are its last one again.
struct TileBlocks {
    const uint8_t* b[tile_blocks];
};
template <class Block>
TileBlocks blocks_from(const uint8_t* b, int n) {
    const auto block = [&](int j) { return b + static_cast<size_t>(std::min(j, n - 1)) * Block::bytes; };
    return {{block(0), block(1), block(2), block(3)}};
}

/// The unsigned integers of four blocks: the first 16 of each, and the last 16.
struct Integers {
    __m512i first;
    __m512i second;
};

FASTKV_VNNI inline __m128i load_16(const uint8_t* from) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}

/// 16 bytes of each block, `at` behind its beginning.
FASTKV_VNNI inline __m512i sixteen_of_each(const TileBlocks& tile, size_t at) {
    // Broadcasts under a mask leave the port for shuffles free.
    __m512i all = _mm512_castsi128_si512(load_16(tile.b[0] + at));
    all = _mm512_mask_broadcast_i32x4(all, 0x00F0, load_16(tile.b[1] + at));
    all = _mm512_mask_broadcast_i32x4(all, 0x0F00, load_16(tile.b[2] + at));
    return _mm512_mask_broadcast_i32x4(all, 0xF000, load_16(tile.b[3] + at));
}

/// Value j of a block is the low half of byte j, value j + 16 the high half.
FASTKV_VNNI inline Integers nibbles(const TileBlocks& tile, size_t at) {
    const __m512i both = sixteen_of_each(tile, at);
    const __m512i low_half = _mm512_set1_epi8(0x0F);
    return {_mm512_and_si512(both, low_half), _mm512_and_si512(_mm512_srli_epi16(both, 4), low_half)};
}

FASTKV_VNNI inline Integers integers(Q40, const TileBlocks& tile) { return nibbles(tile, Q40::at_values); }
FASTKV_VNNI inline Integers integers(Q41, const TileBlocks& tile) { return nibbles(tile, Q41::at_values); }
FASTKV_VNNI inline Integers integers(Q50, const TileBlocks& tile) {
    const Integers low = nibbles(tile, Q50::at_values);
    uint16_t bits[2][tile_blocks];  // the fifth bits of first halves, then of second halves
    for (int j = 0; j < tile_blocks; ++j) {
        std::memcpy(&bits[0][j], tile.b[j] + Q50::at_bits, sizeof(uint16_t));
        std::memcpy(&bits[1][j], tile.b[j] + Q50::at_bits + sizeof(uint16_t), sizeof(uint16_t));
    }
    __mmask64 fifth[2];
    std::memcpy(fifth, bits, sizeof(fifth));
    const __m512i high = _mm512_set1_epi8(16);
    return {_mm512_mask_add_epi8(low.first, fifth[0], low.first, high),
            _mm512_mask_add_epi8(low.second, fifth[1], low.second, high)};
}
FASTKV_VNNI inline Integers integers(Q80, const TileBlocks& tile) {
    const __m512i sign = _mm512_set1_epi8(static_cast<char>(0x80));  // + 128
    return {_mm512_xor_si512(sixteen_of_each(tile, Q80::at_values), sign),
            _mm512_xor_si512(sixteen_of_each(tile, Q80::at_values + 16), sign)};
}

/// d and m of the blocks whose first words these are: d, and behind it, in Q4_1, m.
struct Heads {
    __m512 d;
    __m512 minimum;
};
template <class Block>
FASTKV_VNNI inline Heads heads(Block, __m512i words) {
    const __m512 d = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words));
    return {d, _mm512_mul_ps(d, _mm512_set1_ps(Block::offset))};
}
FASTKV_VNNI inline Heads heads(Q41, __m512i words) {
    return {_mm512_cvtph_ps(_mm512_cvtepi32_epi16(words)),
            _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(words, 16)))};
}

/// Asks for memory some rows further on: R rows in step are no pattern that the processor would foresee. Measured at 2
/// to 32 KiB: 4 KiB are within 5 % of the best both where weights come from memory and where they come from the last
/// cache.
FASTKV_VNNI inline void fetch_ahead(const uint8_t* from, size_t bytes) {
    constexpr size_t distance = 4096, line = 64;
    for (size_t at = 0; at < bytes; at += line) {
        _mm_prefetch(reinterpret_cast<const char*>(from + distance + at), _MM_HINT_T1);
    }
}

/// Where the blocks of a tile lie behind that of its first row, in lanes [tile_rows][tile_blocks].
template <class Block>
FASTKV_VNNI inline __m512i block_offsets(size_t row_bytes) {
    constexpr int B = Block::bytes;
    const __m512i in_row =
        _mm512_set_epi32(3 * B, 2 * B, B, 0, 3 * B, 2 * B, B, 0, 3 * B, 2 * B, B, 0, 3 * B, 2 * B, B, 0);
    const __m512i row = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
    return _mm512_add_epi32(in_row, _mm512_mullo_epi32(row, _mm512_set1_epi32(static_cast<int>(row_bytes))));
}

/// Products of four rows of W with one row of x, as they grow: four lanes of each block of a tile.
struct Sums {
    __m512 rows[tile_rows];  ///< Σ d·s·(Σ u·q)
    __m512 minima;           ///< [4][4] Σ m·s·(Σ q) of each row's blocks
};

/// The four products.
FASTKV_VNNI inline __m128 totals(const Sums& sum) {
    const __m512 ab =
        _mm512_add_ps(_mm512_unpacklo_ps(sum.rows[0], sum.rows[1]), _mm512_unpackhi_ps(sum.rows[0], sum.rows[1]));
    const __m512 ce =
        _mm512_add_ps(_mm512_unpacklo_ps(sum.rows[2], sum.rows[3]), _mm512_unpackhi_ps(sum.rows[2], sum.rows[3]));
    const __m512 abce = _mm512_add_ps(_mm512_shuffle_ps(ab, ce, 0x44), _mm512_shuffle_ps(ab, ce, 0xEE));
    const __m512i turn = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    const __m512 all = _mm512_add_ps(abce, _mm512_permutexvar_ps(turn, sum.minima));
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

/// `R` neighbouring rows of W (1 or 4) times the first `M` rows of x. y is the value of the first row of both.
template <class Block, int R, int M>
FASTKV_VNNI void dot(const uint8_t* row, const QuantizedRows& x, Rows y) {
    const int n_block = x.k / block_values;
    const size_t n_tile = x.n_tile(), row_bytes = static_cast<size_t>(n_block) * Block::bytes;
    const __m512i offsets = block_offsets<Block>(row_bytes);
    const __m512i block_of_lane = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
    Sums sum[M];
    for (int m = 0; m < M; ++m) {
        for (__m512& of_row : sum[m].rows) of_row = _mm512_setzero_ps();
        sum[m].minima = _mm512_setzero_ps();
    }
    for (size_t tile = 0; tile < n_tile; ++tile) {
        constexpr size_t step_bytes = R * tile_blocks * Block::bytes;
        fetch_ahead(row + tile * step_bytes, step_bytes);
        const uint8_t* b = row + tile * tile_blocks * Block::bytes;
        const int n = std::min(tile_blocks, n_block - static_cast<int>(tile) * tile_blocks);
        const auto mask = static_cast<__mmask16>(((1 << n) - 1) * (R == 1 ? 1 : 0x1111));
        const Heads head = heads(Block{}, _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), mask, offsets, b, 1));
        __m512 scale[M];  // [tile_rows][tile_blocks] each
        for (int m = 0; m < M; ++m) {
            const size_t at = (static_cast<size_t>(m) * n_tile + tile) * tile_blocks;
            const __m512 x_sums = _mm512_broadcast_f32x4(_mm_load_ps(x.sums + at));
            scale[m] = _mm512_mul_ps(head.d, _mm512_broadcast_f32x4(_mm_load_ps(x.scales + at)));
            sum[m].minima = _mm512_fmadd_ps(head.minimum, x_sums, sum[m].minima);
        }
        for (int r = 0; r < R; ++r, b += row_bytes) {
            const Integers u = integers(Block{}, blocks_from<Block>(b, n));
            const __m512i own = _mm512_add_epi32(block_of_lane, _mm512_set1_epi32(r * tile_blocks));
            for (int m = 0; m < M; ++m) {
                const int8_t* q = x.values + (static_cast<size_t>(m) * n_tile + tile) * tile_values;
                const __m512i half = _mm512_dpbusd_epi32(_mm512_setzero_si512(), u.first, _mm512_load_si512(q));
                const __m512i all = _mm512_dpbusd_epi32(half, u.second, _mm512_load_si512(q + tile_values / 2));
                const __m512 own_scale = _mm512_permutexvar_ps(own, scale[m]);
                sum[m].rows[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(all), own_scale, sum[m].rows[r]);
            }
        }
    }
    const __mmask8 rows = R == 1 ? 0x1 : 0xF;
    for (int m = 0; m < M; ++m) _mm_mask_storeu_ps(y.data + static_cast<size_t>(m) * y.stride, rows, totals(sum[m]));
}

/// `R` rows of W, as they come from memory, times m rows of x: as many of these at a time as the registers hold.
template <class Block, int R>
void dot_all(const uint8_t* row, const QuantizedRows& x, int m, Rows y) {
    int done = 0;
    const auto next = [&](auto count) {
        dot<Block, R, count.value>(row, x.from(done), {y.data + static_cast<size_t>(done) * y.stride, y.stride});
        done += count.value;
    };
    while (m - done >= 4) next(std::integral_constant<int, 4>{});
    if (m - done == 3) next(std::integral_constant<int, 3>{});
    if (m - done == 2) next(std::integral_constant<int, 2>{});
    if (m - done == 1) next(std::integral_constant<int, 1>{});
}

template <class Block>
void rows_of(const QuantizedMatrix& w, const QuantizedRows& x, int m, int first, int last, Rows y) {
    const size_t row_bytes = static_cast<size_t>(w.k / block_values) * Block::bytes;
    const auto* data = static_cast<const uint8_t*>(w.data);
    int row = first;
    for (; row + tile_rows <= last; row += tile_rows) {
        dot_all<Block, tile_rows>(data + static_cast<size_t>(row) * row_bytes, x, m, {y.data + row, y.stride});
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

/// One row in 8 bits: the largest value of a block is ±127. `values`, `scales` and `sums` are those of the row.
FASTKV_VNNI void quantize_row(const float* x, int k, int8_t* values, float* scales, float* sums) {
    const int n_block = k / block_values;
    for (int block = 0; block < n_block; ++block) {
        const __m512 a = _mm512_loadu_ps(x + block * block_values);
        const __m512 b = _mm512_loadu_ps(x + block * block_values + 16);
        const float largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
        const float step = largest / 127.0F;
        const __m512 inverse = _mm512_set1_ps(largest > 0 ? 127.0F / largest : 0.0F);
        const __m512i qa = _mm512_cvtps_epi32(_mm512_mul_ps(a, inverse));
        const __m512i qb = _mm512_cvtps_epi32(_mm512_mul_ps(b, inverse));
        int8_t* first = values + block / tile_blocks * tile_values + block % tile_blocks * 16;
        _mm_store_si128(reinterpret_cast<__m128i*>(first), _mm512_cvtsepi32_epi8(qa));
        _mm_store_si128(reinterpret_cast<__m128i*>(first + tile_values / 2), _mm512_cvtsepi32_epi8(qb));
        scales[block] = step;
        sums[block] = step * static_cast<float>(_mm512_reduce_add_epi32(_mm512_add_epi32(qa, qb)));
    }
    const int n_padded = round_up(n_block, tile_blocks);
    std::fill(scales + n_block, scales + n_padded, 0.0F);
    std::fill(sums + n_block, sums + n_padded, 0.0F);
}

/// The rows x, normalised if that is wanted, in 8 bits.
QuantizedRows quantize(ConstRows x, const RmsNorm& norm, int m, int k) {
    static thread_local AlignedBuffer normalized_memory;            // [k]
    static thread_local AlignedBuffer value_memory, factor_memory;  // values; scales, then sums
    const size_t n_tile = QuantizedRows{nullptr, nullptr, nullptr, k}.n_tile();
    const size_t n_factor = static_cast<size_t>(m) * n_tile * tile_blocks;
    auto* values = value_memory.reserve_as<int8_t>(static_cast<size_t>(m) * n_tile * tile_values);
    auto* scales = factor_memory.reserve_as<float>(2 * n_factor);
    float* sums = scales + n_factor;
    for (size_t row = 0; row < static_cast<size_t>(m); ++row) {
        const float* from = x.data + row * x.stride;
        if (norm.weight != nullptr) {
            auto* normalized = normalized_memory.reserve_as<float>(static_cast<size_t>(k));
            normalize_row(from, k, norm.weight, norm.eps, GemmType::f32, normalized, k);
            from = normalized;
        }
        const size_t tiles = row * n_tile;
        quantize_row(from, k, values + tiles * tile_values, scales + tiles * tile_blocks, sums + tiles * tile_blocks);
    }
    return {values, scales, sums, k};
}

/// A thread's rows of a matrix of n, in whole steps: sums round alike however many threads there are.
struct Share {
    int first;
    int last;
};
Share share_of(int n, int ith, int nth) {
    const int64_t steps = (n + tile_rows - 1) / tile_rows;
    const auto begin = [&](int thread) { return std::min(n, static_cast<int>(steps * thread / nth) * tile_rows); };
    return {begin(ith), begin(ith + 1)};
}

}  // namespace

void quantized_linear(std::span<const QuantizedOutput> outputs, const RmsNorm& norm, ConstRows x, int m, int ith,
                      int nth) {
    const QuantizedRows rows = quantize(x, norm, m, outputs.front().weights.k);
    for (const QuantizedOutput& output : outputs) {
        const auto [first, last] = share_of(output.weights.n, ith, nth);
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
    const auto [first, last] = share_of(layer.gate.n, ith, nth);
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
