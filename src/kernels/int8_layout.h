// How packed columns of 8-bit integers lie, for all that multiply them (see pack_operand() in int8_product.h).
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastkv::kernels::int8 {

/// A tile is 16 fours of k by 16 columns; a group's tiles of the same values of k follow one another.
constexpr int tile_cols = 16;
constexpr int tile_k = 64;
constexpr size_t tile_bytes = 1024;
constexpr int group_cols = 64;
constexpr size_t group_tiles_bytes = group_cols / tile_cols * tile_bytes;

/// 128 in every byte: what packed columns have added, as a change of their sign bits, where an instruction wants them
/// unsigned.
constexpr int sign_bits = static_cast<int>(0x80808080U);

/// Where the tiles of the columns from `col` on begin, a multiple of tile_cols.
inline const int8_t* columns_from(const int8_t* packed, int k, int col) {
    const int group = col / group_cols * group_cols;
    return packed + static_cast<size_t>(group) * static_cast<size_t>(k) +
           static_cast<size_t>((col - group) / tile_cols) * tile_bytes;
}

}  // namespace fastkv::kernels::int8
