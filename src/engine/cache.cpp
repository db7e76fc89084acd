#include "engine/cache.h"

#include <algorithm>

namespace fastkv {

namespace {

/// One head of K or V as a tensor of its own. `ctx` holds the description only.
ggml_tensor* head_view(ggml_context* ctx, ggml_tensor* tensor, int64_t rows, int head) {
    return ggml_view_2d(ctx, tensor, tensor->ne[0], rows, tensor->nb[1], size_t(head) * tensor->nb[2]);
}

}  // namespace

kernels::KvView kv_view(const ggml_tensor* tensor) {
    return {tensor->data, tensor->type == GGML_TYPE_F32 ? kernels::KvType::f32 : kernels::KvType::f16, tensor->nb[1],
            tensor->nb[2]};
}

LayerCache::LayerCache(const Device& device, ggml_type type, int head_dim, int n_head_kv, int capacity)
    : device_(&device), type_(type), head_dim_(head_dim), n_head_kv_(n_head_kv), capacity_(0) {
    grow(capacity);
}

void LayerCache::set_filled(std::span<const std::vector<int>> positions) {
    n_list_ = int(positions.size());
    n_entry_ = int(positions[0].size());
    positions_.resize(size_t(n_list_) * size_t(capacity_));
    for (int list = 0; list < n_list_; ++list) {
        std::copy(positions[size_t(list)].begin(), positions[size_t(list)].end(),
                  positions_.begin() + ptrdiff_t(list) * capacity_);
    }
}

int LayerCache::append(int32_t position, bool& moved) {
    if (n_entry_ == capacity_) {
        grow(cache_capacity(*device_, capacity_, std::max(256, capacity_ / 4)));
        moved = true;
    }
    for (int list = 0; list < n_list_; ++list) {
        positions_[size_t(list) * size_t(capacity_) + size_t(n_entry_)] = position;
    }
    return n_entry_++;
}

void LayerCache::grow(int capacity) {
    auto store = std::make_unique<TensorStore>(*device_, 2);
    KvTensors kv;
    kv.k = store->add(type_, {head_dim_, capacity, n_head_kv_});
    kv.v = store->add(type_, {head_dim_, capacity, n_head_kv_});
    store->allocate("the cache of a layer");
    if (n_entry_ > 0) {
        ggml_context_ptr views(ggml_init({size_t(4 * n_head_kv_) * ggml_tensor_overhead(), nullptr, true}));
        for (int head = 0; head < n_head_kv_; ++head) {
            for (auto [from, to] : {std::pair{kv_.k, kv.k}, std::pair{kv_.v, kv.v}}) {
                ggml_tensor* source = head_view(views.get(), from, n_entry_, head);
                ggml_tensor* target = head_view(views.get(), to, n_entry_, head);
                ggml_backend_view_init(source);
                ggml_backend_view_init(target);
                ggml_backend_tensor_copy(source, target);
            }
        }
    }
    std::vector<int32_t> all_positions(size_t(n_list_) * size_t(capacity));  // [n_list][capacity]
    for (int list = 0; list < n_list_; ++list) {
        std::copy_n(positions_.begin() + ptrdiff_t(list) * capacity_, n_entry_,
                    all_positions.begin() + ptrdiff_t(list) * capacity);
    }
    positions_ = std::move(all_positions);
    store_ = std::move(store);
    kv_ = kv;
    capacity_ = capacity;
}

uint64_t layer_cache_bytes(ggml_type type, int head_dim, int n_head_kv, int capacity) {
    return uint64_t(2) * ggml_row_size(type, head_dim) * uint64_t(capacity) * uint64_t(n_head_kv);
}

int cache_capacity(const Device& device, int n_entry, int n_predict) {
    const int wanted = n_entry + std::max(n_predict, 1);
    return device.own_kernels ? wanted : (wanted + 255) / 256 * 256;
}

}  // namespace fastkv
