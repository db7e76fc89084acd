// How keys of quantised types are stored: without what all keys of a head have in common, and every component by how
// much it varies. The few steps of a block are then spent on what tells keys apart, and no component drowns another: a
// model with large key biases, as Qwen2, loses what it finds otherwise (docs/methods.md, "Precision").
#pragma once

#include <span>

#include "engine/cache_state.h"
#include "engine/graph.h"

namespace fastkv {

/// A key is offset + scale · the stored one, component by component. Softmax does not see the offset, and queries are
/// multiplied by the scale instead.
struct KeyFrame {
    ggml_tensor* offset = nullptr;  // [head_dim, heads], or nullptr: keys are stored as they are
    ggml_tensor* scale = nullptr;   // the same
    explicit operator bool() const { return offset; }
};

HostFrame read_frame(const KeyFrame& frame);
void write_frame(const HostFrame& values, const KeyFrame& frame);

/// The frame of one head. `ctx` holds the descriptions.
KeyFrame frame_of_head(ggml_context* ctx, const KeyFrame& frame, int head);

/// Adds a head's frame for keys [n][head_dim], n >= 1: the mean, and the fourth root of the mean fourth power of what
/// is left, which lies between the deviation and the largest and serves 16 steps better than either. A component that
/// does not vary here, but may later, gets 1/256 of the largest scale.
void add_frame_of(std::span<const float> keys, int head_dim, HostFrame& frame);

/// Keys x as they are stored in a frame, whose tensors [head_dim, ...] ggml can repeat to x.
ggml_tensor* build_framed(ggml_context* ctx, ggml_tensor* x, const KeyFrame& frame);

/// Queries [head_dim, query heads, rows] for keys as they are stored; as they are without a frame.
ggml_tensor* build_framed_queries(ggml_context* ctx, ggml_tensor* q, const KeyFrame& frame);

}  // namespace fastkv
