#include "engine/prefill.h"

#include <algorithm>
#include <numeric>

#include "engine/head.h"
#include "engine/kernel_choice.h"
#include "fastkv/error.h"

namespace fastkv {

Prefill::Prefill(const Model::Impl& model, const MethodEntry& method, const MethodParams& params,
                 const SessionParams& session, std::span<const Token> prompt, const ProgressCallback& progress)
    : model_(model),
      method_(method),
      params_(params),
      session_(session),
      prompt_(prompt),
      progress_(progress),
      positions_(prompt.size()),
      start_us_(ggml_time_us()) {
    std::iota(positions_.begin(), positions_.end(), 0);
    progress_state_.n_layer = model.hparams.n_layer;
    for (const PlannedLayer& layer : plan_prompt(method, params, model.hparams.n_layer, n_rows())) {
        progress_state_.rows_total += layer.at.n_rows;
    }
}

PrefillResult Prefill::run() {
    for (int layer = 0; layer < model_.hparams.n_layer; ++layer) {
        enter_layer(layer);
        compute_layer(layer);
    }
    const int n_embd = model_.hparams.n_embd;
    result_.last_rows.resize(size_t(n_embd) * size_t(n_rows()));
    ggml_backend_tensor_get(stream_, result_.last_rows.data(), 0, result_.last_rows.size() * sizeof(float));
    return std::move(result_);
}

/// The layer as the design tells it: K and V of all rows, scores, selection, the compressed cache, and then attention
/// and MLP only for the rows that live on.
void Prefill::compute_layer(int layer) {
    const LayerPlan plan = method_.plan(
        params_,
        {.layer = layer, .n_layer = model_.hparams.n_layer, .n_prompt = int(prompt_.size()), .n_rows = n_rows()});
    // above the last layer only the last row matters: it alone gives the logits
    const bool only_last_row = is_last() && !session_.all_logits;
    const int n_block_rows = only_last_row ? 1 : plan.propagate ? plan.propagate->count : n_rows();
    expand_weights(plan, n_block_rows);

    const KvTensors kv = key_value_target(plan);
    project_keys_values(kv);
    const Choice choice = choose_rows(plan, kv);
    fill_cache(choice, kv);
    report_layer(choice);

    attention_->set_keys(*device_, allocator_.get(), kv, positions_);
    std::vector<int> rows = choice.propagated;
    if (only_last_row) {
        rows = {n_rows() - 1};
    } else if (rows.empty()) {
        rows.resize(size_t(n_rows()));
        std::iota(rows.begin(), rows.end(), 0);
    }
    compute_block(rows);
}

/// Moves the residual stream to the layer's device; embeds the prompt before the first layer.
void Prefill::enter_layer(int layer) {
    layer_ = layer;
    const LayerWeights& weights = model_.weights.layers[size_t(layer)];
    context_.emplace(LayerContext{model_.hparams, weights, layer_linears(weights)});
    if (device_ == weights.device) return;

    const HyperParams& hp = model_.hparams;
    auto store = std::make_unique<TensorStore>(*weights.device, 1);
    ggml_tensor* stream = store->add(GGML_TYPE_F32, {hp.n_embd, n_rows()});
    store->allocate("the residual stream of " + std::to_string(n_rows()) + " tokens");
    // in pieces: the host never holds a second stream
    const int piece = 1024;
    std::vector<float> rows(size_t(piece) * size_t(hp.n_embd));  // [piece][n_embd]
    for (int first = 0; first < n_rows(); first += piece) {
        const size_t n = size_t(std::min(piece, n_rows() - first));
        const size_t bytes = n * stream->nb[1];
        const size_t offset = size_t(first) * stream->nb[1];
        if (stream_) {
            ggml_backend_tensor_get(stream_, rows.data(), offset, bytes);
        } else {
            embed(model_.weights, prompt_.subspan(size_t(first), n), rows.data());
        }
        ggml_backend_tensor_set(stream, rows.data(), offset, bytes);
    }
    device_ = weights.device;
    choice_ = choose_kernels(*device_, model_.params.compute);
    stream_ = stream;
    stream_store_ = std::move(store);
    allocator_ = new_graph_allocator(*device_);
    expanded_ = std::make_unique<ExpandedWeights>(choice_.gemm, allocator_.get());
    attention_.emplace(hp, choice_, n_rows());
    scratch_store_.reset();
}

/// Expands the matrices that enough rows will pass through.
void Prefill::expand_weights(const LayerPlan& plan, int n_block_rows) {
    if (!choice_.packed_linear) return;
    const int enough = min_rows_to_expand(model_.params.compute);
    LayerLinears& l = context_->linears;
    std::vector<Linear*> linears;
    if (n_rows() >= enough) linears = {&l.k, &l.v};
    if (n_block_rows >= enough || (plan.score && plan.score->n_query >= enough)) linears.push_back(&l.q);
    if (n_block_rows >= enough) linears.insert(linears.end(), {&l.o, &l.gate, &l.up, &l.down});
    expanded_->expand(*device_, linears);
}

/// Where K and V of all rows go: straight into the cache if it keeps them all, else into the scratch tensors.
KvTensors Prefill::key_value_target(const LayerPlan& plan) {
    const HyperParams& hp = model_.hparams;
    const ggml_type type = cache_type(model_.params.compute);
    const int capacity = cache_capacity(*device_, cached_rows(plan), session_.n_predict);
    result_.caches.emplace_back(*device_, type, hp.head_dim, hp.n_head_kv, capacity);
    if (!plan.keep) return result_.caches.back().tensors();

    if (!scratch_store_) {
        scratch_store_ = std::make_unique<TensorStore>(*device_, 2);
        scratch_.k = scratch_store_->add(type, {hp.head_dim, n_rows(), hp.n_head_kv});
        scratch_.v = scratch_store_->add(type, {hp.head_dim, n_rows(), hp.n_head_kv});
        scratch_store_->allocate("the keys and values of one layer");
    }
    return scratch_;
}

void Prefill::project_keys_values(const KvTensors& kv) {
    const int chunk = prefill_chunk_rows(*device_);
    std::vector<int64_t> kv_rows;  // [rows of the chunk]
    for (int first = 0; first < n_rows(); first += chunk) {
        const int n = std::min(chunk, n_rows() - first);
        kv_rows.resize(size_t(n));
        std::iota(kv_rows.begin(), kv_rows.end(), first);

        Graph graph(*device_, allocator_.get(), 64);
        ggml_tensor* positions = graph.input(GGML_TYPE_I32, {n}, positions_.data() + first);
        ggml_tensor* rows = graph.input(GGML_TYPE_I64, {n}, kv_rows.data());
        ggml_tensor* x = stream_rows(graph.ctx(), first, n);
        const KvTensors written = build_keys_values(graph, *context_, x, positions, rows, kv);
        graph.compute(written.k);
        graph.compute(written.v);
        graph.run();
        advance(0);
    }
}

Choice Prefill::choose_rows(const LayerPlan& plan, const KvTensors& kv) {
    if (!plan.score) return {};
    const int window = plan.score->n_query;
    ggml_context_ptr views(ggml_init({ggml_tensor_overhead(), nullptr, true}));
    ggml_tensor* x = stream_rows(views.get(), n_rows() - window, window);
    Scores scores = window_scores(*device_, allocator_.get(), *context_, choice_, x,
                                  std::span(positions_).last(size_t(window)), kv, n_rows());
    return carry_out(plan, std::move(scores), model_.hparams.n_group(), n_rows());
}

/// Gathers the kept rows of every head into the cache; where all are kept they are there already.
void Prefill::fill_cache(const Choice& choice, const KvTensors& kv) {
    LayerCache& cache = result_.caches.back();
    if (choice.kept.empty()) {
        const std::vector<int> all(positions_.begin(), positions_.end());
        cache.set_filled({&all, 1});
        return;
    }
    const int64_t n_head = int64_t(choice.kept.size());
    const int64_t n = int64_t(choice.kept[0].size());
    std::vector<int32_t> rows;  // [n_head][n]
    for (const auto& head : choice.kept) rows.insert(rows.end(), head.begin(), head.end());

    Graph graph(*device_, allocator_.get(), 16);
    ggml_tensor* indices = graph.input(GGML_TYPE_I32, {n, n_head}, rows.data());
    for (auto [from, to] : {std::pair{kv.k, cache.tensors().k}, std::pair{kv.v, cache.tensors().v}}) {
        ggml_tensor* gathered = ggml_get_rows(graph.ctx(), from, indices);  // [head_dim, n, n_head]
        ggml_tensor* target = ggml_view_3d(graph.ctx(), to, to->ne[0], n, n_head, to->nb[1], to->nb[2], 0);
        graph.compute(ggml_cpy(graph.ctx(), gathered, target));
    }
    graph.run();

    std::vector<std::vector<int>> kept_positions = choice.kept;
    for (auto& head : kept_positions) {
        for (int& row : head) row = positions_[size_t(row)];
    }
    cache.set_filled(kept_positions);
}

/// Attention and MLP for the given rows, ascending; afterwards they are the whole residual stream. Chunks are written
/// back in place: a chunk's rows lie at or after the place that it is written to.
void Prefill::compute_block(std::span<const int> rows) {
    const int64_t dropped = n_rows() - int64_t(rows.size());
    const bool all = dropped == 0;
    const int chunk = prefill_chunk_rows(*device_);
    std::vector<int32_t> block_positions(rows.size());
    for (size_t i = 0; i < rows.size(); ++i) block_positions[i] = positions_[size_t(rows[i])];

    for (int first = 0; first < int(rows.size()); first += chunk) {
        const int n = std::min(chunk, int(rows.size()) - first);
        const std::span<const int32_t> chunk_rows = rows.subspan(size_t(first), size_t(n));
        Graph graph(*device_, allocator_.get(), 96);
        ggml_tensor* positions = graph.input(GGML_TYPE_I32, {n}, block_positions.data() + first);
        ggml_tensor* x = stream_rows(graph.ctx(), first, n);
        if (!all) {
            ggml_tensor* indices = graph.input(GGML_TYPE_I32, {n}, chunk_rows.data());
            x = ggml_get_rows(graph.ctx(), stream_rows(graph.ctx(), 0, n_rows()), indices);
        }
        ggml_tensor* y = build_block(graph, *context_, x, positions, attention_->of(chunk_rows));
        graph.compute(ggml_cpy(graph.ctx(), y, stream_rows(graph.ctx(), first, n)));
        graph.run();
        advance(n);
    }
    positions_ = std::move(block_positions);
    advance(dropped);
}

void Prefill::report_layer(const Choice& choice) {
    const LayerCache& cache = result_.caches.back();
    LayerReport report;
    report.rows = n_rows();
    report.cached = cache.n_entry();
    report.n_head_cached = cache.n_head_kv();
    for (int head = 0; head < (cache.shares_positions() ? 1 : cache.n_head_kv()); ++head) {
        report.kept.emplace_back(cache.positions(head).begin(), cache.positions(head).end());
    }
    for (int row : choice.propagated) report.propagated.push_back(positions_[size_t(row)]);
    result_.layers.push_back(std::move(report));
}

/// Counts finished rows and lets the caller see and stop.
void Prefill::advance(int64_t rows) {
    progress_state_.layer = layer_;
    progress_state_.rows_done += rows;
    progress_state_.seconds = double(ggml_time_us() - start_us_) * 1e-6;
    if (progress_ && !progress_(progress_state_)) throw Error(ErrorKind::cancelled, "the prefill was stopped");
}

ggml_tensor* Prefill::stream_rows(ggml_context* ctx, int first, int count) const {
    return ggml_view_2d(ctx, stream_, stream_->ne[0], count, stream_->nb[1], size_t(first) * stream_->nb[1]);
}

}  // namespace fastkv
