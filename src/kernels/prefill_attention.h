// Causal attention of many query rows over one layer's full K and V, block by block with an online softmax:
// never more than one block of scores per thread in memory, blocks that are masked as a whole are skipped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/gemm.h"
#include "kernels/kv_view.h"
#include "kernels/team.h"

namespace fastkv::kernels {

/// K and V of one layer packed into blocks of keys for the products of the attention. Used for layer after layer.
class PackedKv {
  public:
    /// `max_rows`: of the longest layer.
    PackedKv(GemmType type, int head_dim, int n_head_kv, int max_rows);
    ~PackedKv();
    PackedKv(PackedKv&&) noexcept;
    PackedKv& operator=(PackedKv&&) noexcept;

    size_t bytes() const;                    ///< of memory of its own, but for scales
    size_t bytes_beside(KvType rows) const;  ///< that it will have, for the longest layer, if all rows are packed over

    /// Rows of a head that give the packed operands of `n_rows` room.
    static int room_for(int n_rows);

    /// Says that rows [0, n_rows) of all heads come next. `over`: they are not wanted afterwards, and what is packed
    /// may replace them where it is as large and every head has room_for(n_rows) rows, one behind the other. Then k and
    /// v must stay until the attention is computed.
    void set_rows(const KvView& k, const KvView& v, int n_rows, bool over);

    /// Packs them: the blocks that this thread of the team takes. To be finished before prefill_attention() begins.
    void pack(Team& team) const;

    struct Impl;
    Impl& impl() const { return *impl_; }

  private:
    std::unique_ptr<Impl> impl_;
};

/// The query side. Query i sees key j if j <= key_row[i] and, with a sliding window, if
/// key_position[key_row[i]] - key_position[j] < sliding_window.
struct PrefillQueries {
    const float* q = nullptr;               ///< [n_query][n_head][head_dim], rotated
    float* out = nullptr;                   ///< [n_query][n_head][head_dim]; may be q itself
    const int32_t* key_row = nullptr;       ///< [n_query] the row of each query among the keys, ascending
    const int32_t* key_position = nullptr;  ///< [n_rows] original positions of the keys, ascending
    int n_query = 0;
    int n_head = 0;          ///< query head h reads key/value head h / (n_head / n_head_kv)
    float scale = 0;         ///< 1 / sqrt(head_dim)
    int sliding_window = 0;  ///< 0: none
};

/// out = softmax(scale · q·Kᵀ, masked)·V: the blocks of queries that this thread of the team takes.
void prefill_attention(const PackedKv& kv, const PrefillQueries& queries, Team& team);

/// The same for all of them by the calling thread alone.
void prefill_attention(const PackedKv& kv, const PrefillQueries& queries);

}  // namespace fastkv::kernels
