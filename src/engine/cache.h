// The key/value cache of one layer: rotated keys, values, and where in the prompt every entry came from.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/cache_state.h"
#include "engine/graph.h"
#include "engine/key_frame.h"
#include "kernels/cache_attention.h"
#include "kernels/prefill_attention.h"
#include "methods/carry_out.h"

namespace fastkv {

/// K and V of one layer, of the cache or of a prefill in flight: the rows of all heads, head after head.
struct KvTensors {
    ggml_tensor* k = nullptr;  // [head_dim, rows, heads], rotated; [head_dim, rows of all heads, 1] where heads differ
    ggml_tensor* v = nullptr;  // the same; nullptr where only keys are wanted
    KeyFrame frame;            // of k
};

/// The types of cached keys and values.
struct KvTypes {
    ggml_type k = GGML_TYPE_F16;
    ggml_type v = GGML_TYPE_F16;
    bool operator==(const KvTypes&) const = default;
};

/// What the kernels call a type of K or V.
kernels::KvType kernel_type(ggml_type type);

/// How the kernels see K or V that lie in host memory.
kernels::KvView kv_view(const ggml_tensor* tensor);

/// All rows of K or V in one dimension: [head_dim, rows of all heads].
ggml_tensor* flat_rows(ggml_context* ctx, ggml_tensor* tensor);

/// Three different numbers: an entry's position is where its token stood in the prompt or answer; its row is where it
/// lies in the tensors; its index counts the entries of its head. Heads may hold different numbers of entries, and each
/// holds its own positions, unless all hold the same. Entries lie in order of position until some are removed.
class LayerCache {
  public:
    /// `capacity` [cached heads]: entries that each head has room for.
    LayerCache(const Device& device, KvTypes types, int head_dim, std::span<const int> capacity);

    /// As state() found a cache; every head has room for `n_predict` more entries. `state` must fit the types and
    /// itself.
    LayerCache(const Device& device, KvTypes types, int head_dim, const CacheState& state, int n_predict);

    CacheState state() const;

    const KvTensors& tensors() const { return kv_; }
    const Device& device() const { return *device_; }
    /// The part of one head: [head_dim, capacity(head), 1]. `ctx` holds the descriptions.
    KvTensors head_tensors(ggml_context* ctx, int head) const;
    int n_head() const { return int(heads_.size()); }
    /// Of all tensors, whatever their device rounds up to.
    uint64_t bytes() const {
        return ggml_nbytes(kv_.k) + ggml_nbytes(kv_.v) +
               (kv_.frame ? ggml_nbytes(kv_.frame.offset) + ggml_nbytes(kv_.frame.scale) : 0);
    }
    KvTypes types() const { return types_; }

    /// Whether all heads have the same number of entries and rows.
    bool is_even() const;
    /// Whether all heads hold the same positions.
    bool shares_positions() const { return shares_positions_; }

    int n_entry(int head) const { return heads_[size_t(head)].n_entry; }
    int max_entry() const;
    int capacity(int head) const { return capacity_[size_t(head)]; }
    std::span<const int32_t> positions(int head) const {
        return std::span(positions_).subspan(first_position(head), size_t(n_entry(head)));
    }

    /// Where the entries stand for a sliding window: at their positions, or where place_first() has put them.
    std::span<const int32_t> places(int head) const {
        return {heads_[size_t(head)].position, size_t(heads_[size_t(head)].n_entry)};
    }

    /// Lets the first entries of every head stand `shift` [entries] behind their positions, until the cache changes.
    void place_first(std::span<const int32_t> shift);

    /// Where the kernels find every head: [n_head], valid until the cache changes.
    const kernels::CacheHead* heads() const { return heads_.data(); }

    /// The row of an entry in flat_rows().
    int64_t row(int head, int entry) const { return heads_[size_t(head)].first_row + entry; }

    /// Declares the first rows of the heads filled, by whoever writes them, with entries from these positions: one list
    /// for each head, or one for all.
    void set_filled(std::span<const std::vector<int>> positions);

    /// Makes room in every head for one more entry at each of these positions. The new entries are the last ones. When
    /// the tensors had to move to a larger place, `moved` becomes true: graphs that use them must be built again.
    void append(std::span<const int32_t> positions, bool& moved);

    /// Drops all entries from `position` on. Only where entries lie in order of position.
    void cut_back(int position);

    /// Drops entries by the rule of remove_entries() (methods/eviction.h): one list for each head, or one for all.
    void remove(std::span<const std::vector<int>> entries);

    /// Copies the rows of one head's first entries to the host: K as float32 [n][head_dim].
    void read_keys(int head, int n, float* keys) const;

  private:
    void allocate(std::span<const int> capacity);
    void grow(int n_more);
    void own_positions();
    size_t first_position(int head) const { return shares_positions_ ? 0 : size_t(heads_[size_t(head)].first_row); }
    void point_at(const std::vector<int32_t>& positions);
    void move_row(int64_t from, int64_t to);

    const Device* device_;
    KvTypes types_;
    int head_dim_;
    std::vector<int> capacity_;              // [n_head]
    std::vector<kernels::CacheHead> heads_;  // [n_head]
    KvTensors kv_;
    std::unique_ptr<TensorStore> store_;
    bool shares_positions_ = true;
    std::vector<int32_t> positions_;  // [capacity of a head] if all share them, else [rows of all heads]
    std::vector<int32_t> places_;     // the same, where some stand elsewhere
};

/// Copies rows [cached heads][own count] of a layer's K and V to the first entries of `cache`, on its device. The heads
/// of `kv` are `head_rows` flat rows apart; cached heads of one group read the same one. Where the cache stores keys in
/// a frame and `kv` does not, it becomes that of each head's keys.
void copy_rows(const KvTensors& kv, int64_t head_rows, std::span<const std::vector<int>> rows, LayerCache& cache,
               ggml_gallocr_t allocator);

/// The kept rows of every cached head: [cached heads][own count].
inline std::vector<std::vector<int>> rows_of_heads(const Choice& choice, int n_head_kv) {
    if (choice.kept.size() > 1) return choice.kept;
    return std::vector<std::vector<int>>(size_t(n_head_kv), choice.kept[0]);
}

/// Bytes of a cache of `n_head` heads with room for `n_entry` entries, over all of them.
uint64_t cache_bytes(KvTypes types, int head_dim, int n_head, int64_t n_entry);

/// Entries that a cache's head is given for `n_entry` filled ones and `n_predict` to come: ggml's attention wants a
/// multiple of 256.
int cache_capacity(const Device& device, int n_entry, int n_predict);

}  // namespace fastkv
