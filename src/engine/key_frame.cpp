#include "engine/key_frame.h"

#include <algorithm>
#include <cmath>

namespace fastkv {

namespace {

std::vector<float> read_floats(const ggml_tensor* tensor) {
    std::vector<float> values(size_t(ggml_nelements(tensor)));
    ggml_backend_tensor_get(tensor, values.data(), 0, ggml_nbytes(tensor));
    return values;
}

}  // namespace

HostFrame read_frame(const KeyFrame& frame) {
    if (!frame) return {};
    return {read_floats(frame.offset), read_floats(frame.scale)};
}

void write_frame(const HostFrame& values, const KeyFrame& frame) {
    ggml_backend_tensor_set(frame.offset, values.offset.data(), 0, ggml_nbytes(frame.offset));
    ggml_backend_tensor_set(frame.scale, values.scale.data(), 0, ggml_nbytes(frame.scale));
}

KeyFrame frame_of_head(ggml_context* ctx, const KeyFrame& frame, int head) {
    if (!frame) return {};
    const auto of_head = [&](ggml_tensor* all) {
        ggml_tensor* view = ggml_view_2d(ctx, all, all->ne[0], 1, all->nb[1], size_t(head) * all->nb[1]);
        ggml_backend_view_init(view);
        return view;
    };
    return {of_head(frame.offset), of_head(frame.scale)};
}

void add_frame_of(std::span<const float> keys, int head_dim, HostFrame& frame) {
    const size_t dim = size_t(head_dim), n = keys.size() / dim;
    std::vector<double> mean(dim), scale(dim);
    for (size_t key = 0; key < n; ++key) {
        for (size_t i = 0; i < dim; ++i) mean[i] += double(keys[key * dim + i]);
    }
    for (double& m : mean) m /= double(n);
    for (size_t key = 0; key < n; ++key) {
        for (size_t i = 0; i < dim; ++i) {
            const double left = double(keys[key * dim + i]) - mean[i];
            scale[i] += left * left * left * left;
        }
    }
    for (double& s : scale) s = std::sqrt(std::sqrt(s / double(n)));
    const double largest = *std::max_element(scale.begin(), scale.end());
    const double least = largest > 0 ? largest / 256 : 1;
    for (size_t i = 0; i < dim; ++i) {
        frame.offset.push_back(float(mean[i]));
        frame.scale.push_back(float(std::max(scale[i], least)));
    }
}

ggml_tensor* build_framed(ggml_context* ctx, ggml_tensor* x, const KeyFrame& frame) {
    return ggml_div(ctx, ggml_sub(ctx, x, frame.offset), frame.scale);
}

ggml_tensor* build_framed_queries(ggml_context* ctx, ggml_tensor* q, const KeyFrame& frame) {
    if (!frame) return q;
    const int64_t head_dim = q->ne[0], n_head = q->ne[1], n_head_kv = frame.scale->ne[1], rows = q->ne[2];
    if (!ggml_is_contiguous(q)) q = ggml_cont(ctx, q);
    ggml_tensor* groups = ggml_reshape_4d(ctx, q, head_dim, n_head / n_head_kv, n_head_kv, rows);
    ggml_tensor* scale = ggml_reshape_3d(ctx, frame.scale, head_dim, 1, n_head_kv);
    return ggml_reshape_3d(ctx, ggml_mul(ctx, groups, scale), head_dim, n_head, rows);
}

}  // namespace fastkv
