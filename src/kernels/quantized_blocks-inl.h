// ggml's block formats as they are read here: a tile is 128 neighbouring weights of a row, four blocks of 32,
// and a block is b_i = d·u_i + m with unsigned integers u. A format says where a tile lies, what its integers are, and
// the d and m of a tile of four rows. For AVX-512 VNNI.
#pragma once

// GCC 12's own headers leave vectors uninitialised where it does not matter, and then warn of it.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/quantized_matrix.h"

#define FASTKV_VNNI __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c,fma")))

namespace fastkv::kernels {
namespace {

constexpr int block_values = 32;
constexpr int tile_blocks = 4;
constexpr int tile_values = tile_blocks * block_values;
constexpr int tile_rows = 4;  ///< rows of W at a time: their d of a tile fill a vector

/// Tiles of a row, the last of which may be half of one.
inline size_t tiles_of(int k) { return static_cast<size_t>((k + tile_values - 1) / tile_values); }

/// Where a tile lies: of a format with blocks of 32 values at the first of them, of one with 256 at its block.
struct Tile {
    const uint8_t* data;
    int n;     ///< blocks of 32 values: a row may end with two
    int half;  ///< of a block of 256
};

/// The unsigned integers of a tile: the first 16 of each block, and the last 16.
struct Integers {
    __m512i first;
    __m512i second;
};

/// d and m of a tile in each of four rows, [tile_rows][tile_blocks].
struct Factors {
    __m512 d;
    __m512 m;
};

/// One for all of a block, or one for each half.
struct HalfFactors {
    Factors first;
    Factors second;
};

FASTKV_VNNI inline __m128i load_16(const uint8_t* from) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}

FASTKV_VNNI inline __m512 from_halves(__m512i words) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words)); }

// ---- blocks of 32 values ------------------------------------------------------------------------------------------

/// What Q4_0, Q4_1, Q5_0 and Q8_0 have in common: `bytes` for each 32 values, d at the front.
template <class Format>
struct SmallBlocks {
    static constexpr size_t tile_bytes() { return tile_blocks * Format::bytes; }

    static Tile tile(const uint8_t* row, size_t index, int n_block) {
        return {row + index * tile_bytes(), std::min(tile_blocks, n_block - static_cast<int>(index) * tile_blocks), 0};
    }

    /// 16 bytes of each block, `at` behind its beginning; those that the row does not have are its last again.
    FASTKV_VNNI static __m512i sixteen_of_each(const Tile& tile, size_t at) {
        const auto block = [&](int j) {
            return tile.data + static_cast<size_t>(std::min(j, tile.n - 1)) * Format::bytes + at;
        };
        // Broadcasts under a mask leave the port for shuffles free.
        __m512i all = _mm512_castsi128_si512(load_16(block(0)));
        all = _mm512_mask_broadcast_i32x4(all, 0x00F0, load_16(block(1)));
        all = _mm512_mask_broadcast_i32x4(all, 0x0F00, load_16(block(2)));
        return _mm512_mask_broadcast_i32x4(all, 0xF000, load_16(block(3)));
    }

    /// Value j of a block is the low half of byte j, value j + 16 the high half.
    FASTKV_VNNI static Integers nibbles(const Tile& tile, size_t at) {
        const __m512i both = sixteen_of_each(tile, at);
        const __m512i low_half = _mm512_set1_epi8(0x0F);
        return {_mm512_and_si512(both, low_half), _mm512_and_si512(_mm512_srli_epi16(both, 4), low_half)};
    }

    /// The first word of each block of `R` rows; 0 where there is none.
    template <int R>
    FASTKV_VNNI static __m512i first_words(const Tile& tile, size_t row_bytes) {
        constexpr int B = Format::bytes;
        const __m512i in_row =
            _mm512_set_epi32(3 * B, 2 * B, B, 0, 3 * B, 2 * B, B, 0, 3 * B, 2 * B, B, 0, 3 * B, 2 * B, B, 0);
        const __m512i row = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
        const __m512i offsets =
            _mm512_add_epi32(in_row, _mm512_mullo_epi32(row, _mm512_set1_epi32(static_cast<int>(row_bytes))));
        const auto mask = static_cast<__mmask16>(((1 << tile.n) - 1) * (R == 1 ? 1 : 0x1111));
        return _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), mask, offsets, tile.data, 1);
    }

    template <int R>
    FASTKV_VNNI static Factors factors(const Tile& tile, size_t row_bytes) {
        const __m512 d = from_halves(first_words<R>(tile, row_bytes));
        return {d, _mm512_mul_ps(d, _mm512_set1_ps(Format::offset))};
    }
};

struct Q40 : SmallBlocks<Q40> {
    static constexpr size_t bytes = 18;
    static constexpr float offset = -8;
    FASTKV_VNNI static Integers integers(const Tile& tile) { return nibbles(tile, 2); }
};

struct Q41 : SmallBlocks<Q41> {
    static constexpr size_t bytes = 20;
    FASTKV_VNNI static Integers integers(const Tile& tile) { return nibbles(tile, 4); }
    template <int R>
    FASTKV_VNNI static Factors factors(const Tile& tile, size_t row_bytes) {
        const __m512i words = first_words<R>(tile, row_bytes);  // d, m
        return {from_halves(words), from_halves(_mm512_srli_epi32(words, 16))};
    }
};

struct Q50 : SmallBlocks<Q50> {
    static constexpr size_t bytes = 22;
    static constexpr float offset = -16;
    FASTKV_VNNI static Integers integers(const Tile& tile) {
        const Integers low = nibbles(tile, 6);
        uint16_t bits[2][tile_blocks];  // the fifth bits of first halves, then of second halves
        for (int j = 0; j < tile_blocks; ++j) {
            const uint8_t* from = tile.data + static_cast<size_t>(std::min(j, tile.n - 1)) * bytes + 2;
            std::memcpy(&bits[0][j], from, sizeof(uint16_t));
            std::memcpy(&bits[1][j], from + sizeof(uint16_t), sizeof(uint16_t));
        }
        __mmask64 fifth[2];
        std::memcpy(fifth, bits, sizeof(fifth));
        const __m512i high = _mm512_set1_epi8(16);
        return {_mm512_mask_add_epi8(low.first, fifth[0], low.first, high),
                _mm512_mask_add_epi8(low.second, fifth[1], low.second, high)};
    }
};

struct Q80 : SmallBlocks<Q80> {
    static constexpr size_t bytes = 34;
    static constexpr float offset = -128;
    FASTKV_VNNI static Integers integers(const Tile& tile) {
        const __m512i sign = _mm512_set1_epi8(static_cast<char>(0x80));  // + 128
        return {_mm512_xor_si512(sixteen_of_each(tile, 2), sign), _mm512_xor_si512(sixteen_of_each(tile, 18), sign)};
    }
};

// ---- blocks of 256 values -----------------------------------------------------------------------------------------

/// What the K-quants have in common: `bytes` for each 256 values, two tiles.
template <class Format>
struct LargeBlocks {
    static constexpr size_t tile_bytes() { return Format::bytes / 2; }

    static Tile tile(const uint8_t* row, size_t index, int) {
        return {row + index / 2 * Format::bytes, tile_blocks, static_cast<int>(index % 2)};
    }

    /// 16 bytes from `at` of the blocks of `R` rows, a row in each 128 bits; 0 where there is none.
    template <int R>
    FASTKV_VNNI static __m512i sixteen_of_rows(const Tile& tile, size_t row_bytes, size_t at) {
        const uint8_t* from = tile.data + at;
        __m512i all = _mm512_zextsi128_si512(load_16(from));
        if constexpr (R == tile_rows) {
            all = _mm512_mask_broadcast_i32x4(all, 0x00F0, load_16(from + row_bytes));
            all = _mm512_mask_broadcast_i32x4(all, 0x0F00, load_16(from + 2 * row_bytes));
            all = _mm512_mask_broadcast_i32x4(all, 0xF000, load_16(from + 3 * row_bytes));
        }
        return all;
    }

    /// Four bytes of each 128 bits, `step` bytes apart from `at` on, each in byte `to` of a word of its own.
    FASTKV_VNNI static __m512i spread(__m512i bytes, int at, int step, int to) {
        const auto word = [&](int j) {
            return static_cast<int>(~(0xFFU << 8 * to) | unsigned(at + step * j) << 8 * to);
        };
        const __m128i order = _mm_set_epi32(word(3), word(2), word(1), word(0));
        return _mm512_shuffle_epi8(bytes, _mm512_broadcast_i32x4(order));
    }
};

/// Q4_K and Q5_K: d and the factor of m in float16, then eight d and eight m of 6 bits in 12 bytes.
template <class Format>
struct SixBitFactors : LargeBlocks<Format> {
    using Base = LargeBlocks<Format>;

    template <int R>
    FASTKV_VNNI static Factors factors(const Tile& tile, size_t row_bytes) {
        const __m512i head = Base::template sixteen_of_rows<R>(tile, row_bytes, 0);
        const __m512i lower_d = Base::spread(head, 4, 1, 0), lower_m = Base::spread(head, 8, 1, 0);
        __m512i d = _mm512_and_si512(lower_d, _mm512_set1_epi32(63));
        __m512i m = _mm512_and_si512(lower_m, _mm512_set1_epi32(63));
        if (tile.half == 1) {  // four bits of each side by side, the upper two above the first half's
            const __m512i both = Base::spread(head, 12, 1, 0), top = _mm512_set1_epi32(0x30);
            d = _mm512_or_si512(_mm512_and_si512(both, _mm512_set1_epi32(15)),
                                _mm512_and_si512(_mm512_srli_epi32(lower_d, 2), top));
            m = _mm512_or_si512(_mm512_srli_epi32(both, 4), _mm512_and_si512(_mm512_srli_epi32(lower_m, 2), top));
        }
        const __m512i units = _mm512_shuffle_epi32(head, _MM_PERM_AAAA);
        const __m512 minus_m = _mm512_sub_ps(_mm512_setzero_ps(), from_halves(_mm512_srli_epi32(units, 16)));
        return {_mm512_mul_ps(from_halves(units), _mm512_cvtepi32_ps(d)),
                _mm512_mul_ps(minus_m, _mm512_cvtepi32_ps(m))};
    }

    FASTKV_VNNI static Integers nibbles(const Tile& tile, size_t at) {
        const uint8_t* from = tile.data + at + static_cast<size_t>(tile.half) * 64;
        return {sixteen(from), sixteen(from + 16)};
    }

  private:
    /// 32 bytes hold two blocks, one in the low halves and one in the high; here are 16 of each 32.
    FASTKV_VNNI static __m512i sixteen(const uint8_t* from) {
        const __m512i low = _mm512_broadcast_i32x4(load_16(from));
        const __m512i all = _mm512_mask_broadcast_i32x4(low, 0xFF00, load_16(from + 32));
        const __m512i shifts = _mm512_set_epi64(4, 4, 0, 0, 4, 4, 0, 0);
        return _mm512_and_si512(_mm512_srlv_epi64(all, shifts), _mm512_set1_epi8(0x0F));
    }
};

struct Q4K : SixBitFactors<Q4K> {
    static constexpr size_t bytes = 144;
    FASTKV_VNNI static Integers integers(const Tile& tile) { return nibbles(tile, 16); }
};

struct Q5K : SixBitFactors<Q5K> {
    static constexpr size_t bytes = 176;
    FASTKV_VNNI static Integers integers(const Tile& tile) {
        const Integers low = nibbles(tile, 48);
        return {with_fifth(low.first, tile.data + 16, tile.half), with_fifth(low.second, tile.data + 32, tile.half)};
    }

  private:
    /// Bit b of byte j is the fifth of value j of block b.
    FASTKV_VNNI static __m512i with_fifth(__m512i values, const uint8_t* from, int half) {
        const __m512i bits =
            _mm512_set_epi64(0x0808080808080808, 0x0808080808080808, 0x0404040404040404, 0x0404040404040404,
                             0x0202020202020202, 0x0202020202020202, 0x0101010101010101, 0x0101010101010101);
        const __m512i own = half == 0 ? bits : _mm512_slli_epi64(bits, 4);
        const __mmask64 set = _mm512_test_epi8_mask(_mm512_broadcast_i32x4(load_16(from)), own);
        return _mm512_mask_add_epi8(values, set, values, _mm512_set1_epi8(16));
    }
};

/// Q6_K: low halves, two more bits, a factor in 8 bits for each 16 values, and d.
struct Q6K : LargeBlocks<Q6K> {
    static constexpr size_t bytes = 210;
    static constexpr size_t at_bits = 128, at_factors = 192;

    template <int R>
    FASTKV_VNNI static HalfFactors factors(const Tile& tile, size_t row_bytes) {
        // d is the last of the 16 bytes that end the block.
        const __m512i end = sixteen_of_rows<R>(tile, row_bytes, bytes - 16);
        const __m512 d = from_halves(_mm512_srli_epi32(_mm512_shuffle_epi32(end, _MM_PERM_DDDD), 16));
        const __m512i all = sixteen_of_rows<R>(tile, row_bytes, at_factors);
        return {of_half(d, spread(all, 8 * tile.half, 2, 3)), of_half(d, spread(all, 8 * tile.half + 1, 2, 3))};
    }

    FASTKV_VNNI static Integers integers(const Tile& tile) {
        const uint8_t* low = tile.data + static_cast<size_t>(tile.half) * 64;
        const uint8_t* high = tile.data + at_bits + static_cast<size_t>(tile.half) * 32;
        return {sixteen(low, high), sixteen(low + 16, high + 16)};
    }

  private:
    /// `factors` lie in the highest byte of each word.
    FASTKV_VNNI static Factors of_half(__m512 d, __m512i factors) {
        const __m512 own = _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_srai_epi32(factors, 24)));
        return {own, _mm512_mul_ps(own, _mm512_set1_ps(-32))};
    }

    /// Blocks 0 and 1 are the low halves of 32 bytes each, 2 and 3 the high ones; block b has bits 2b and 2b + 1.
    FASTKV_VNNI static __m512i sixteen(const uint8_t* low, const uint8_t* high) {
        __m512i all = _mm512_broadcast_i32x4(load_16(low));
        all = _mm512_mask_broadcast_i32x4(all, 0xF0F0, load_16(low + 32));
        const __m512i nibbles =
            _mm512_and_si512(_mm512_srlv_epi64(all, _mm512_set_epi64(4, 4, 4, 4, 0, 0, 0, 0)), _mm512_set1_epi8(0x0F));
        const __m512i bits =
            _mm512_srlv_epi64(_mm512_broadcast_i32x4(load_16(high)), _mm512_set_epi64(6, 6, 4, 4, 2, 2, 0, 0));
        const __m512i upper = _mm512_slli_epi16(_mm512_and_si512(bits, _mm512_set1_epi8(3)), 4);
        return _mm512_or_si512(nibbles, upper);
    }
};

// ---- any of them --------------------------------------------------------------------------------------------------

template <class Block>
constexpr size_t row_bytes(int k) {
    return static_cast<size_t>(k / block_values) * Block::tile_bytes() / tile_blocks;
}

/// Calls visit(Format()) with the format of these blocks.
template <class Visit>
void with_format(BlockType type, const Visit& visit) {
    switch (type) {
        case BlockType::q4_0: return visit(Q40());
        case BlockType::q4_1: return visit(Q41());
        case BlockType::q5_0: return visit(Q50());
        case BlockType::q8_0: return visit(Q80());
        case BlockType::q4_k: return visit(Q4K());
        case BlockType::q5_k: return visit(Q5K());
        case BlockType::q6_k: return visit(Q6K());
    }
}

}  // namespace
}  // namespace fastkv::kernels
