// The key/value cache of one layer: rotated keys, values, and where in the prompt every entry came from.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/graph.h"
#include "kernels/prefill_attention.h"

namespace fastkv {

/// K and V of one layer, of the cache or of a prefill in flight.
struct KvTensors {
    ggml_tensor* k = nullptr;  // [head_dim, rows, n_head_kv], rotated
    ggml_tensor* v = nullptr;  // [head_dim, rows, n_head_kv]
};

/// How the kernels see K or V that lie in host memory.
kernels::KvView kv_view(const ggml_tensor* tensor);

/// Three different numbers: an entry's position is where its token stood in the prompt or answer; its row is where it
/// lies in the tensors; the length is how many rows are filled. Every head holds the same number of entries, but each
/// its own positions, unless all hold the same.
class LayerCache {
  public:
    LayerCache(const Device& device, ggml_type type, int head_dim, int n_head_kv, int capacity);

    const KvTensors& tensors() const { return kv_; }
    const Device& device() const { return *device_; }
    int n_entry() const { return n_entry_; }
    int capacity() const { return capacity_; }
    int n_head_kv() const { return n_head_kv_; }
    uint64_t bytes() const { return store_->bytes(); }

    /// Whether all heads hold the same positions.
    bool shares_positions() const { return n_list_ == 1; }

    /// Positions of the entries of one head, ascending.
    std::span<const int32_t> positions(int head) const {
        return {positions_.data() + size_t(shares_positions() ? 0 : head) * size_t(capacity_), size_t(n_entry_)};
    }

    /// Entries from one head's positions to the next head's; 0 where they share them.
    int position_stride() const { return shares_positions() ? 0 : capacity_; }

    /// Declares the first rows of the tensors filled, by whoever wrote them, with entries from these positions:
    /// one list for each head, or one for all.
    void set_filled(std::span<const std::vector<int>> positions);

    /// Makes room for one more entry at `position` and returns its row. When the tensors had to move to a larger place,
    /// `moved` becomes true: graphs that use them must be built again.
    int append(int32_t position, bool& moved);

  private:
    void grow(int capacity);

    const Device* device_;
    ggml_type type_;
    int head_dim_;
    int n_head_kv_;
    int capacity_;
    int n_entry_ = 0;
    KvTensors kv_;
    std::unique_ptr<TensorStore> store_;
    int n_list_ = 1;                  // lists of positions: 1 or n_head_kv
    std::vector<int32_t> positions_;  // [n_list][capacity]
};

/// Bytes of a cache with these dimensions.
uint64_t layer_cache_bytes(ggml_type type, int head_dim, int n_head_kv, int capacity);

/// Entries that a cache is given for `n_entry` filled ones and `n_predict` to come: ggml's attention wants a multiple
/// of 256.
int cache_capacity(const Device& device, int n_entry, int n_predict);

}  // namespace fastkv
