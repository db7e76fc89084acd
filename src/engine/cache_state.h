// What a layer's cache holds, as plain bytes: no tensors, no devices.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "fastkv/session.h"
#include "kernels/kv_view.h"

namespace fastkv {

/// How the kernels read rows of a resolved type.
inline kernels::KvType kernel_type(CacheType type) {
    switch (type) {
        case CacheType::f32: return kernels::KvType::f32;
        case CacheType::q8_0: return kernels::KvType::q8_0;
        case CacheType::q5_0: return kernels::KvType::q5_0;
        case CacheType::q4_0: return kernels::KvType::q4_0;
        default: return kernels::KvType::f16;
    }
}

/// Whether keys of this type are stored in a frame (engine/key_frame.h).
inline bool has_frame(kernels::KvType type) { return kernels::is_quantized(type); }

/// The frame of all heads' keys.
struct HostFrame {
    std::vector<float> offset;  // [n_head][head_dim], or empty: keys are stored as they are
    std::vector<float> scale;   // the same
};

/// What a cache holds, on the host, without the room between and behind the heads.
struct CacheState {
    int32_t n_head = 0;                       // cached heads
    std::vector<std::vector<int>> positions;  // [n_head][entries], or one list for all heads
    std::vector<std::byte> k;                 // the rows of all heads, one after another, as they are stored
    std::vector<std::byte> v;
    HostFrame frame;

    const std::vector<int>& positions_of(int head) const { return positions[positions.size() == 1 ? 0 : size_t(head)]; }
    /// Entries of all heads together.
    int64_t n_entry() const {
        int64_t n = 0;
        for (int head = 0; head < n_head; ++head) n += int64_t(positions_of(head).size());
        return n;
    }
};

}  // namespace fastkv
