// Widening: a tile's integers become float32, 16 at a time, times their block's d, plus its m. Products of d, which has
// 11 bits, and a block's integers fit float32, so that one rounding at most is left, as in ggml.
#include "kernels/quantized_matrix.h"

#include "kernels/simd.h"

#if defined(__x86_64__)

#include "kernels/quantized_blocks-inl.h"

namespace fastkv::kernels {

bool quantized_available() {
    static const bool yes = max_isa() >= Isa::avx512 && __builtin_cpu_supports("avx512vnni") &&
                            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                            __builtin_cpu_supports("avx512vl");
    return yes;
}

namespace {

/// One half of each block of a tile, 16 values of 32: values [blocks][32], of which these are the first or last 16.
FASTKV_VNNI inline void widen_halves(__m512i integers, const Factors& factors, int n_block, float* values) {
    alignas(64) uint8_t u[tile_values / 2];
    alignas(64) float d[16], m[16];  // of the blocks, in the first lanes
    _mm512_store_si512(u, integers);
    _mm512_store_ps(d, factors.d);
    _mm512_store_ps(m, factors.m);
    for (int block = 0; block < n_block; ++block) {
        const __m512 numbers = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(load_16(u + 16 * block)));
        _mm512_storeu_ps(values + block * block_values,
                         _mm512_fmadd_ps(numbers, _mm512_set1_ps(d[block]), _mm512_set1_ps(m[block])));
    }
}

FASTKV_VNNI inline void widen_tile(const Integers& u, const HalfFactors& factors, int n_block, float* values) {
    widen_halves(u.first, factors.first, n_block, values);
    widen_halves(u.second, factors.second, n_block, values + block_values / 2);
}
FASTKV_VNNI inline void widen_tile(const Integers& u, const Factors& factors, int n_block, float* values) {
    widen_tile(u, {factors, factors}, n_block, values);
}

template <class Block>
FASTKV_VNNI void widen(const uint8_t* row, int k, float* values) {
    for (size_t index = 0; index < tiles_of(k); ++index) {
        const Tile tile = Block::tile(row, index, k / block_values);
        widen_tile(Block::integers(tile), Block::template factors<1>(tile, 0), tile.n, values + index * tile_values);
    }
}

}  // namespace

void widen_row(const QuantizedMatrix& w, int row, float* values) {
    with_format(w.type, [&](auto format) {
        using Block = decltype(format);
        widen<Block>(static_cast<const uint8_t*>(w.data) + static_cast<size_t>(row) * row_bytes<Block>(w.k), w.k,
                     values);
    });
}

}  // namespace fastkv::kernels

#else  // other processors: quantized_available() says so, and nothing else is called

namespace fastkv::kernels {

bool quantized_available() { return false; }
void widen_row(const QuantizedMatrix&, int, float*) {}

}  // namespace fastkv::kernels

#endif
