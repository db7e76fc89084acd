#include "engine/decoder.h"

#include <algorithm>

#include "engine/head.h"
#include "engine/kernel_choice.h"

namespace fastkv {

Decoder::Decoder(const Model::Impl& model, std::vector<LayerCache>& caches)
    : model_(model), caches_(caches), inputs_(caches.size()), row_(size_t(model.hparams.n_embd)) {
    for (int layer = 0; layer < model.hparams.n_layer; ++layer) {
        const Device* device = model.weights.layers[size_t(layer)].device;
        if (segments_.empty() || segments_.back().device != device) {
            segments_.push_back({device, layer, layer, new_graph_allocator(*device), nullptr});
        }
        segments_.back().end_layer = layer + 1;
    }
}

void Decoder::run(Token token, int position, std::span<float> row) {
    append(position);
    embed(model_.weights, {&token, 1}, row_.data());
    for (Segment& segment : segments_) {
        if (stale_ || !segment.graph) build(segment);
        segment.graph->run();
        segment.graph->read(segment.output, row_.data());
    }
    stale_ = false;
    std::copy(row_.begin(), row_.end(), row.begin());
}

/// Makes room in every cache and sets the inputs of every layer.
void Decoder::append(int position) {
    position_ = position;
    for (size_t layer = 0; layer < caches_.size(); ++layer) {
        LayerCache& cache = caches_[layer];
        LayerInput& input = inputs_[layer];
        input.kv_row = cache.append(position, stale_);
        if (cache.device().own_kernels) continue;
        const int n_kv = padded_entries(cache);
        stale_ = stale_ || n_kv != input.n_kv;
        input.n_kv = n_kv;
        cache_mask(model_.hparams, cache, position, n_kv, input.mask);
    }
}

void Decoder::build(Segment& segment) {
    const HyperParams& hp = model_.hparams;
    const KernelChoice choice = choose_kernels(*segment.device, model_.params.compute);
    const int nodes_per_layer = 48;
    segment.graph = std::make_unique<Graph>(*segment.device, segment.allocator.get(),
                                            nodes_per_layer * (segment.end_layer - segment.first_layer) + 16);
    Graph& graph = *segment.graph;
    ggml_tensor* x = graph.input(GGML_TYPE_F32, {hp.n_embd, 1}, row_.data());
    ggml_tensor* position = graph.input(GGML_TYPE_I32, {1}, &position_);
    for (int index = segment.first_layer; index < segment.end_layer; ++index) {
        const LayerWeights& weights = model_.weights.layers[size_t(index)];
        const LayerContext layer{hp, weights, layer_linears(weights)};
        const LayerCache& cache = caches_[size_t(index)];
        LayerInput& input = inputs_[size_t(index)];

        ggml_tensor* kv_row = graph.input(GGML_TYPE_I64, {1}, &input.kv_row);
        const KvTensors written = build_keys_values(graph, layer, x, position, kv_row, cache.tensors());
        graph.compute(written.k);
        graph.compute(written.v);
        ggml_tensor* mask = nullptr;
        if (!choice.cache_kernels) {
            mask = graph.input(GGML_TYPE_F16, {input.n_kv, 1, cache_mask_heads(hp)}, input.mask.data());
        }
        x = build_block(graph, layer, x, position, cache_attention(hp, choice, cache, written, input.n_kv, mask));
    }
    graph.output(x);
    segment.output = x;
}

}  // namespace fastkv
