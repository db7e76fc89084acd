// What a layer's cache holds, as plain bytes: no tensors, no devices.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fastkv {

/// What a cache holds, on the host, without the room between and behind the heads.
struct CacheState {
    int32_t n_head = 0;                       // cached heads
    std::vector<std::vector<int>> positions;  // [n_head][entries], or one list for all heads
    std::vector<std::byte> k;                 // the rows of all heads, one after another, as they are stored
    std::vector<std::byte> v;
    std::vector<float> k_offset;  // [n_head][head_dim] that the keys are stored without; empty where they are not

    const std::vector<int>& positions_of(int head) const { return positions[positions.size() == 1 ? 0 : size_t(head)]; }
    /// Entries of all heads together.
    int64_t n_entry() const {
        int64_t n = 0;
        for (int head = 0; head < n_head; ++head) n += int64_t(positions_of(head).size());
        return n;
    }
};

}  // namespace fastkv
