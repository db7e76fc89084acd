#include "engine/decoder.h"

#include <algorithm>

#include "engine/head.h"

namespace fastkv {

Decoder::Decoder(const Model::Impl& model, std::vector<LayerCache>& caches,
                 std::vector<std::unique_ptr<Eviction>>& evictions, AttentionRecord* record)
    : model_(model),
      caches_(caches),
      evictions_(evictions),
      record_(record),
      nodes_(caches.size()),
      row_(size_t(model.hparams.n_embd)) {
    for (int layer = 0; layer < model.hparams.n_layer; ++layer) {
        const Device* device = model.weights.layers[size_t(layer)].device;
        if (segments_.empty() || segments_.back().device != device) {
            segments_.push_back(
                {device, layer, layer, choose_kernels(*device, model.params.compute), new_graph_allocator(*device)});
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
        for (int layer = segment.first_layer; layer < segment.end_layer; ++layer) show(segment, layer);
    }
    stale_ = false;
    std::copy(row_.begin(), row_.end(), row.begin());
}

/// Makes room in every cache and sets the inputs of every layer.
void Decoder::append(int position) {
    position_ = position;
    for (size_t layer = 0; layer < caches_.size(); ++layer) {
        LayerCache& cache = caches_[layer];
        LayerNodes& nodes = nodes_[layer];
        read_sinks(int(layer));
        cache.append({&position_, 1}, stale_);
        nodes.kv_rows.resize(size_t(cache.n_head()));
        for (int head = 0; head < cache.n_head(); ++head) {
            nodes.kv_rows[size_t(head)] = cache.row(head, cache.n_entry(head) - 1);
        }
        place_sinks(int(layer));
        if (cache.device().own_kernels) continue;
        stale_ = update_groups(model_.hparams, cache, position, nodes.groups) || stale_;
    }
}

void Decoder::build(Segment& segment) {
    const HyperParams& hp = model_.hparams;
    int n_nodes = 16;
    for (int layer = segment.first_layer; layer < segment.end_layer; ++layer) {
        n_nodes += 64 + 12 * int(nodes_[size_t(layer)].groups.size());
    }
    segment.graph = std::make_unique<Graph>(*segment.device, segment.allocator.get(), n_nodes);
    Graph& graph = *segment.graph;
    ggml_tensor* x = graph.input(GGML_TYPE_F32, {hp.n_embd, 1}, row_.data());
    ggml_tensor* position = graph.input(GGML_TYPE_I32, {1}, &position_);
    for (int layer = segment.first_layer; layer < segment.end_layer; ++layer) {
        x = build_layer(graph, segment.choice, layer, x, position);
    }
    graph.output(x);
    segment.output = x;
}

ggml_tensor* Decoder::build_layer(Graph& graph, const KernelChoice& choice, int index, ggml_tensor* x,
                                  ggml_tensor* position) {
    const HyperParams& hp = model_.hparams;
    const LayerWeights& weights = model_.weights.layers[size_t(index)];
    const LayerContext layer{hp, weights, layer_linears(weights)};
    const LayerCache& cache = caches_[size_t(index)];
    LayerNodes& nodes = nodes_[size_t(index)];

    ggml_tensor* kv_rows = graph.input(GGML_TYPE_I64, {cache.n_head()}, nodes.kv_rows.data());
    KvTensors written = build_keys_values(graph, layer, x, position, kv_rows, cache.tensors());
    if (!nodes.sink_shift.empty()) {
        const int64_t n_sink = int64_t(nodes.sink_shift.size());
        nodes.sink_rows.clear();
        for (int sink = 0; sink < int(n_sink); ++sink) {
            for (int head = 0; head < cache.n_head(); ++head) nodes.sink_rows.push_back(cache.row(head, sink));
        }
        ggml_tensor* keys = graph.input(GGML_TYPE_F32, {hp.head_dim, cache.n_head(), n_sink}, nodes.sink_keys.data());
        ggml_tensor* shift = graph.input(GGML_TYPE_I32, {n_sink}, nodes.sink_shift.data());
        ggml_tensor* rows = graph.input(GGML_TYPE_I64, {n_sink * cache.n_head()}, nodes.sink_rows.data());
        written.k = build_turned_keys(graph, layer, keys, shift, rows, written.k);
    }
    graph.compute(written.k);
    graph.compute(written.v);

    const Eviction* eviction = evictions_[size_t(index)].get();
    const bool wants_weights = record_ || (eviction && eviction->reads_attention());
    nodes.weights = nullptr;
    nodes.weight_row = weight_row_length(choice, cache);
    const CacheQuestion question{
        hp, choice, cache, written, position_, nodes.groups, wants_weights ? &nodes.weights : nullptr};
    x = build_block(graph, layer, x, position, cache_attention(question));
    if (nodes.weights) graph.output(nodes.weights);
    return x;
}

/// The sinks' keys of a rolling cache, from which they are turned anew for every token, so that no error grows. Until
/// all are there (a prompt may be shorter) none has been turned yet.
void Decoder::read_sinks(int layer) {
    const Eviction* eviction = evictions_[size_t(layer)].get();
    const LayerCache& cache = caches_[size_t(layer)];
    LayerNodes& nodes = nodes_[size_t(layer)];
    const int n_sink = eviction ? std::min(eviction->rolling_sinks(), cache.n_entry(0)) : 0;
    if (n_sink == int(nodes.sink_shift.size())) return;
    stale_ = true;
    const size_t dim = size_t(model_.hparams.head_dim), n_head = size_t(cache.n_head());
    std::vector<float> keys(size_t(n_sink) * dim);  // [sinks][head_dim]
    nodes.sink_keys.resize(size_t(n_sink) * n_head * dim);
    nodes.sink_shift.resize(size_t(n_sink));
    for (size_t head = 0; head < n_head; ++head) {
        cache.read_keys(int(head), n_sink, keys.data());
        for (size_t sink = 0; sink < size_t(n_sink); ++sink) {
            std::copy_n(keys.begin() + ptrdiff_t(sink * dim), dim,
                        nodes.sink_keys.begin() + ptrdiff_t((sink * n_head + head) * dim));
        }
    }
}

/// The sinks of a rolling cache stand as if the first entry of a cache without gaps were theirs.
void Decoder::place_sinks(int layer) {
    LayerCache& cache = caches_[size_t(layer)];
    std::vector<int32_t>& shift = nodes_[size_t(layer)].sink_shift;
    if (shift.empty()) return;
    std::fill(shift.begin(), shift.end(), position_ + 1 - cache.n_entry(0));
    if (model_.hparams.sliding_window > 0) cache.place_first(shift);
}

/// The probabilities with which the token attended: [n_head][entries of its head].
std::vector<std::vector<float>> Decoder::read_attention(const Segment& segment, int layer) const {
    const LayerCache& cache = caches_[size_t(layer)];
    const LayerNodes& nodes = nodes_[size_t(layer)];
    const int n_head = model_.hparams.n_head;
    std::vector<float> rows(size_t(nodes.weight_row) * size_t(n_head));
    segment.graph->read(nodes.weights, rows.data());
    std::vector<std::vector<float>> attention;
    for (int head = 0; head < n_head; ++head) {
        const auto row = rows.begin() + ptrdiff_t(head) * nodes.weight_row;
        attention.emplace_back(row, row + cache.n_entry(head / (n_head / cache.n_head())));
    }
    return attention;
}

/// Lets the record and the layer's eviction see the token, and drops what the eviction names.
void Decoder::show(const Segment& segment, int layer) {
    Eviction* eviction = evictions_[size_t(layer)].get();
    LayerCache& cache = caches_[size_t(layer)];
    std::vector<std::vector<float>> attention;  // [n_head][entries of its head], or empty
    if (nodes_[size_t(layer)].weights) attention = read_attention(segment, layer);
    if (record_) record_->add(layer, cache, attention);
    if (!eviction) return;
    const auto removed = eviction->step(position_, attention);
    if (!removed.empty()) cache.remove(removed);
}

}  // namespace fastkv
