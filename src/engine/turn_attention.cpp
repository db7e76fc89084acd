#include "engine/turn_attention.h"

#include <numeric>

namespace fastkv {

TurnAttention::TurnAttention(const HyperParams& hparams, const KernelChoice& choice, const LayerCache& cache,
                             ggml_gallocr_t allocator)
    : views_(ggml_init({size_t(4 * cache.n_head()) * ggml_tensor_overhead(), nullptr, /*no_alloc=*/true})),
      n_head_(hparams.n_head),
      n_head_cached_(cache.n_head()) {
    const bool together = cache.is_even() && (hparams.sliding_window == 0 || cache.shares_positions());
    const int n_head = together ? cache.n_head() : 1;  // of a group
    for (int head = 0; head < cache.n_head(); head += n_head) {
        const int n_entry = cache.n_entry(head);
        const int n_query_head = n_head_ / n_head_cached_ * n_head;
        groups_.push_back({head, n_head, n_entry, PrefillAttention(hparams, choice, n_query_head, n_head, n_entry)});
        const KvTensors kv = together ? cache.tensors() : cache.head_tensors(views_.get(), head);
        groups_.back().attention.set_keys(cache.device(), allocator, kv, cache.positions(head),
                                          /*over=*/false);
    }
}

Attend TurnAttention::of(int n_back, int count) {
    for (Group& group : groups_) {
        group.key_rows.resize(size_t(count));
        std::iota(group.key_rows.begin(), group.key_rows.end(), group.n_entry - n_back);
    }
    if (groups_.size() == 1) return groups_[0].attention.of(groups_[0].key_rows);
    Attend attend;
    attend.nodes = [this](Graph& graph, ggml_tensor* q) {   // [head_dim, n_head, rows]
        const int n_query_head = n_head_ / n_head_cached_;  // of a cached head
        ggml_tensor* out = nullptr;
        for (Group& group : groups_) {
            ggml_tensor* own = ggml_view_3d(graph.ctx(), q, q->ne[0], int64_t(n_query_head) * group.n_head, q->ne[2],
                                            q->nb[1], q->nb[2], size_t(group.first_head * n_query_head) * q->nb[1]);
            ggml_tensor* part = group.attention.of(group.key_rows).nodes(graph, ggml_cont(graph.ctx(), own));
            out = out ? ggml_concat(graph.ctx(), out, part, 0) : part;
        }
        return out;
    };
    return attend;
}

}  // namespace fastkv
