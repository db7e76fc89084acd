// How K and V lie in memory: the kernels that read them agree on this and nothing else.
#pragma once

#include <cstddef>

namespace fastkv::kernels {

/// Type of the stored K and V rows. The last three are ggml's: blocks of 32 values, a float16 scale and 32 integers of
/// 8, 5 or 4 bits each.
enum class KvType { f32, f16, q8_0, q5_0, q4_0 };

/// Values of a quantised block, and its bytes. Rows of these types are whole blocks.
constexpr int kv_block_values = 32;
constexpr size_t q8_0_bytes = 2 + kv_block_values;
constexpr size_t q5_0_bytes = 2 + kv_block_values / 8 + kv_block_values / 2;
constexpr size_t q4_0_bytes = 2 + kv_block_values / 2;

/// Whether rows are blocks.
inline bool is_quantized(KvType type) { return type != KvType::f32 && type != KvType::f16; }

/// Bytes of a row of `head_dim` values; of a quantised type a multiple of 32 values.
inline size_t kv_row_size(KvType type, int head_dim) {
    const auto n = static_cast<size_t>(head_dim);
    switch (type) {
        case KvType::f32: return n * 4;
        case KvType::f16: return n * 2;
        case KvType::q8_0: return n / kv_block_values * q8_0_bytes;
        case KvType::q5_0: return n / kv_block_values * q5_0_bytes;
        case KvType::q4_0: break;
    }
    return n / kv_block_values * q4_0_bytes;
}

/// K or V of one layer: row `i` of head `h` is `head_dim` values at data + h·head_stride + i·row_stride (strides in
/// bytes).
struct KvView {
    const void* data = nullptr;
    KvType type = KvType::f16;
    size_t row_stride = 0;
    size_t head_stride = 0;
};

}  // namespace fastkv::kernels
