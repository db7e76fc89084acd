#include "engine/decoder.h"

#include <algorithm>

#include "engine/head.h"
#include "engine/qkv.h"

namespace fastkv {

Decoder::Decoder(const Model::Impl& model) : model_(model), attention_(size_t(model.hparams.n_layer)) {
    for (int layer = 0; layer < model.hparams.n_layer; ++layer) {
        const Device* device = model.weights.layers[size_t(layer)].device;
        if (segments_.empty() || segments_.back().device != device) {
            segments_.push_back(
                {device, layer, layer, choose_kernels(*device, model.params.compute), new_graph_allocator(*device)});
        }
        segments_.back().end_layer = layer + 1;
    }
}

void Decoder::run(std::span<Sequence* const> sequences, std::span<const Token> tokens, std::span<float> rows) {
    std::vector<uint64_t> layouts;
    for (const Sequence* sequence : sequences) layouts.push_back(sequence->layout());
    const bool stale = layouts != layouts_;
    layouts_.clear();  // until all graphs are built
    rows_.resize(rows.size());
    embed(model_.weights, tokens, rows_.data());
    positions_.clear();
    for (const Sequence* sequence : sequences) positions_.push_back(sequence->position());
    for (Segment& segment : segments_) {
        if (stale) build(segment, sequences);
        segment.graph->run();
        segment.graph->read(segment.output, rows_.data());
        for (int layer = segment.first_layer; layer < segment.end_layer; ++layer) show(segment, layer, sequences);
    }
    layouts_ = std::move(layouts);
    std::copy(rows_.begin(), rows_.end(), rows.begin());
}

void Decoder::build(Segment& segment, std::span<Sequence* const> sequences) {
    const HyperParams& hp = model_.hparams;
    const auto n_row = int64_t(sequences.size());
    int n_nodes = 16;
    for (int layer = segment.first_layer; layer < segment.end_layer; ++layer) {
        n_nodes += 48;
        for (const Sequence* sequence : sequences) n_nodes += 32 + 12 * int(sequence->inputs(layer).groups.size());
    }
    segment.graph = std::make_unique<Graph>(*segment.device, segment.allocator.get(), n_nodes);
    Graph& graph = *segment.graph;
    ggml_tensor* x = graph.input(GGML_TYPE_F32, {hp.n_embd, n_row}, rows_.data());
    ggml_tensor* positions = graph.input(GGML_TYPE_I32, {n_row}, positions_.data());
    for (int layer = segment.first_layer; layer < segment.end_layer; ++layer) {
        x = build_layer(segment, layer, sequences, x, positions);
    }
    graph.output(x);
    segment.output = x;
}

namespace {

/// The keys of a rolling cache's first entries, turned on; returns the written keys.
ggml_tensor* build_sinks(Graph& graph, const LayerContext& layer, const LayerCache& cache,
                         const Sequence::LayerInputs& inputs, const KvTensors& written) {
    const int64_t n_sink = int64_t(inputs.sink_shift.size()), n_head = cache.n_head();
    ggml_tensor* keys = graph.input(GGML_TYPE_F32, {layer.hparams.head_dim, n_head, n_sink}, inputs.sink_keys.data());
    ggml_tensor* shift = graph.input(GGML_TYPE_I32, {n_sink}, inputs.sink_shift.data());
    ggml_tensor* rows = graph.input(GGML_TYPE_I64, {n_sink * n_head}, inputs.sink_rows.data());
    return build_turned_keys(graph, layer, keys, shift, rows, written);
}

}  // namespace

ggml_tensor* Decoder::build_layer(Segment& segment, int index, std::span<Sequence* const> sequences, ggml_tensor* x,
                                  ggml_tensor* positions) {
    Graph& graph = *segment.graph;
    const LayerWeights& weights = model_.weights.layers[size_t(index)];
    const LayerContext layer{model_.hparams, weights, layer_linears(weights)};
    std::vector<RowTarget> targets;
    for (const Sequence* sequence : sequences) {
        targets.push_back({sequence->cache(index).tensors(), sequence->inputs(index).kv_rows});
    }
    RowHeads heads = build_row_heads(graph, layer, x, positions, targets);

    std::vector<AttentionOutput>& outputs = attention_[size_t(index)];
    outputs.assign(sequences.size(), {});
    std::vector<CacheQuestion> questions;
    for (size_t i = 0; i < sequences.size(); ++i) {
        const Sequence& sequence = *sequences[i];
        const LayerCache& cache = sequence.cache(index);
        const Sequence::LayerInputs& inputs = sequence.inputs(index);
        if (!inputs.sink_shift.empty()) heads.written[i].k = build_sinks(graph, layer, cache, inputs, heads.written[i]);
        graph.compute(heads.written[i].k);
        graph.compute(heads.written[i].v);
        outputs[i].row_length = weight_row_length(segment.choice, cache);
        questions.push_back({model_.hparams, segment.choice, cache, heads.written[i], sequence.position(),
                             inputs.groups, sequence.reads_attention(index) ? &outputs[i].node : nullptr});
    }
    x = build_layer_end(graph, layer, x, build_cache_attention(graph, questions, heads.q));
    for (const AttentionOutput& output : outputs) {
        if (output.node) graph.output(output.node);
    }
    return x;
}

/// Shows every sequence the probabilities with which its token attended, where it reads them.
void Decoder::show(const Segment& segment, int layer, std::span<Sequence* const> sequences) const {
    const int n_head = model_.hparams.n_head;
    for (size_t i = 0; i < sequences.size(); ++i) {
        const AttentionOutput& output = attention_[size_t(layer)][i];
        std::vector<std::vector<float>> attention;  // [n_head][entries of its head], or empty
        if (output.node) {
            const LayerCache& cache = sequences[i]->cache(layer);
            std::vector<float> rows(size_t(output.row_length) * size_t(n_head));
            segment.graph->read(output.node, rows.data());
            for (int head = 0; head < n_head; ++head) {
                const auto row = rows.begin() + ptrdiff_t(head) * output.row_length;
                attention.emplace_back(row, row + cache.n_entry(head / (n_head / cache.n_head())));
            }
        }
        sequences[i]->show(layer, attention);
    }
}

}  // namespace fastkv
