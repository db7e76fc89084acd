#include "engine/stream.h"

#include <algorithm>
#include <string>
#include <vector>

#include "engine/head.h"
#include "model/memory.h"

namespace fastkv {

void ResidualStream::move_to(const Device& device, int n_rows) {
    if (device_ == &device) return;
    const int64_t n_embd = weights_.token_embd->ne[0];
    auto store = std::make_unique<TensorStore>(device, 1);
    ggml_tensor* target = store->add(GGML_TYPE_F32, {n_embd, n_rows});
    store->allocate("the residual stream of " + std::to_string(n_rows) + " tokens");
    // in pieces: the host never holds a second stream, and they stay in the caches
    const int piece = 64;
    std::vector<float> host(size_t(piece) * size_t(n_embd));  // [piece][n_embd]
    for (int first = 0; first < n_rows; first += piece) {
        const int n = std::min(piece, n_rows - first);
        if (device_) {
            read(first, n, host.data());
        } else {
            embed(weights_, tokens_.subspan(size_t(first), size_t(n)), host.data());
        }
        ggml_backend_tensor_set(target, host.data(), size_t(first) * target->nb[1], size_t(n) * target->nb[1]);
    }
    device_ = &device;
    tensor_ = target;
    store_ = std::move(store);
}

void ResidualStream::shrink(int n_rows) {
    if (!device_->is_cpu) return;
    const size_t kept = size_t(n_rows) * tensor_->nb[1];
    give_back_pages(static_cast<const std::byte*>(tensor_->data) + kept, ggml_nbytes(tensor_) - kept);
}

ggml_tensor* ResidualStream::rows(ggml_context* ctx, int first, int count) const {
    return ggml_view_2d(ctx, tensor_, tensor_->ne[0], count, tensor_->nb[1], size_t(first) * tensor_->nb[1]);
}

void ResidualStream::read(int first, int count, float* rows) const {
    ggml_backend_tensor_get(tensor_, rows, size_t(first) * tensor_->nb[1], size_t(count) * tensor_->nb[1]);
}

}  // namespace fastkv
