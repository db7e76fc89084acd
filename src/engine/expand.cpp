#include "engine/expand.h"

#include <algorithm>

namespace fastkv {

namespace {

/// Row `row` of a weight as float32: values [n_in].
void read_row(const Linear& linear, int row, float* values) {
    if (linear.row_matrix) return kernels::widen_row(*linear.row_matrix, row, values);
    const ggml_tensor* weight = linear.weight;
    const char* from = static_cast<const char*>(weight->data) + size_t(row) * weight->nb[1];
    dequantize(weight->type, from, values, weight->ne[0]);
}

/// A slab of a matrix, the unit of work of one thread.
struct SlabTask {
    const Linear* linear;
    kernels::PackedWeights* packed;
    int slab;

    void run() const {
        packed->pack_slab(slab, [this](int row, float* values) { read_row(*linear, row, values); });
    }
};

std::optional<kernels::BlockType> block_type(ggml_type type) {
    switch (type) {
        case GGML_TYPE_Q4_0: return kernels::BlockType::q4_0;
        case GGML_TYPE_Q4_1: return kernels::BlockType::q4_1;
        case GGML_TYPE_Q5_0: return kernels::BlockType::q5_0;
        case GGML_TYPE_Q8_0: return kernels::BlockType::q8_0;
        case GGML_TYPE_Q4_K: return kernels::BlockType::q4_k;
        case GGML_TYPE_Q5_K: return kernels::BlockType::q5_k;
        case GGML_TYPE_Q6_K: return kernels::BlockType::q6_k;
        default: return std::nullopt;
    }
}

kernels::PackedWeights new_memory(kernels::GemmType type, const Linear& linear) {
    return {type, int(linear.weight->ne[1]), int(linear.weight->ne[0]), linear.reads_hidden};
}

}  // namespace

Linear make_linear(const Device& device, ggml_tensor* weight, ggml_tensor* bias) {
    Linear linear{weight, bias};
    const auto type = block_type(weight->type);
    if (type && device.own_kernels && kernels::quantized_available() && weight->ne[0] % 64 == 0) {
        linear.row_matrix = {*type, weight->data, int(weight->ne[1]), int(weight->ne[0])};
    }
    return linear;
}

LayerLinears layer_linears(const LayerWeights& w) {
    const Device& device = *w.device;
    LayerLinears linears = {
        .q = make_linear(device, w.attn_q, w.attn_q_bias),
        .k = make_linear(device, w.attn_k, w.attn_k_bias),
        .v = make_linear(device, w.attn_v, w.attn_v_bias),
        .o = make_linear(device, w.attn_output),
        .gate = make_linear(device, w.ffn_gate),
        .up = make_linear(device, w.ffn_up),
        .down = make_linear(device, w.ffn_down),
    };
    linears.down.reads_hidden = true;
    return linears;
}

void ExpandedWeights::expand(const Device& device, std::span<Linear* const> linears) {
    if (kept_) return expand_kept(device, linears);
    expand_reused(device, linears);
}

void ExpandedWeights::expand_kept(const Device& device, std::span<Linear* const> linears) {
    const auto locked = kept_->lock();  // another session may want the same
    std::vector<std::pair<const Linear*, kernels::PackedWeights*>> missing;
    for (Linear* linear : linears) {
        ExpandedStore::Entry& entry = kept_->entry(linear->weight);
        if (!entry.packed) entry.packed = new_memory(type_, *linear);
        if (!entry.filled) missing.emplace_back(linear, &*entry.packed);
        linear->packed = &*entry.packed;
    }
    fill(device, missing);
    for (Linear* linear : linears) kept_->entry(linear->weight).filled = true;
}

void ExpandedWeights::expand_reused(const Device& device, std::span<Linear* const> linears) {
    if (packed_.size() < linears.size()) packed_.resize(linears.size());
    std::vector<std::pair<const Linear*, kernels::PackedWeights*>> matrices;
    for (size_t i = 0; i < linears.size(); ++i) {
        kernels::PackedWeights& packed = memory_for(i, *linears[i]);
        matrices.emplace_back(linears[i], &packed);
        linears[i]->packed = &packed;
    }
    fill(device, matrices);
}

void ExpandedWeights::fill(const Device& device,
                           std::span<const std::pair<const Linear*, kernels::PackedWeights*>> matrices) {
    std::vector<SlabTask> tasks;
    for (const auto& [linear, packed] : matrices) {
        for (int slab = 0; slab < packed->n_slab(); ++slab) tasks.push_back({linear, packed, slab});
    }
    if (tasks.empty()) return;

    // the slabs differ in size: threads take the next one when they are done, the longest first
    std::stable_sort(tasks.begin(), tasks.end(),
                     [](const SlabTask& a, const SlabTask& b) { return a.packed->k() > b.packed->k(); });
    Graph graph(device, allocator_, 4);
    ggml_tensor* none = graph.input(GGML_TYPE_F32, {1}, "\0\0\0");
    graph.output(graph.cpu_node({1}, {none}, [&](ggml_tensor*, kernels::Team& team) {
        for (int task = team.take(); task < int(tasks.size()); task = team.take()) tasks[size_t(task)].run();
    }));
    graph.run();
}

uint64_t ExpandedWeights::bytes() const {
    uint64_t bytes = 0;
    for (const auto& packed : packed_) bytes += packed ? packed->bytes() : 0;
    return bytes;
}

kernels::PackedWeights& ExpandedWeights::memory_for(size_t index, const Linear& linear) {
    auto& packed = packed_[index];
    const bool fits = packed && packed->n() == linear.weight->ne[1] && packed->k() == linear.weight->ne[0] &&
                      packed->reads_hidden() == linear.reads_hidden;
    if (!fits) {
        packed.reset();
        packed = new_memory(type_, linear);
    }
    return *packed;
}

}  // namespace fastkv
