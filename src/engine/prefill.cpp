#include "engine/prefill.h"

#include <algorithm>
#include <numeric>

#include "engine/kernel_choice.h"
#include "engine/qkv.h"
#include "fastkv/error.h"

namespace fastkv {

PrefillMeter::PrefillMeter(std::span<const PlannedLayer> layers, int n_layer, const ProgressCallback& callback)
    : callback_(callback), start_us_(ggml_time_us()) {
    state_.n_layer = n_layer;
    for (const PlannedLayer& layer : layers) state_.rows_total += layer.at.n_rows;
}

void PrefillMeter::advance(int layer, int64_t rows) {
    state_.layer = layer;
    state_.rows_done += rows;
    state_.seconds = double(ggml_time_us() - start_us_) * 1e-6;
    if (callback_ && !callback_(state_)) throw Error(ErrorKind::cancelled, "the prefill was stopped");
}

Prefill::Prefill(const PrefillSetup& setup, std::span<const Token> prompt, std::span<const int> spans, int pass)
    : setup_(setup),
      hparams_(setup.model.hparams),
      prompt_(prompt),
      spans_(spans),
      pass_(pass),
      stream_(setup.model.weights, prompt),
      positions_(prompt.size()) {
    std::iota(positions_.begin(), positions_.end(), 0);
}

PrefillResult Prefill::run() {
    for (int layer = 0; layer < hparams_.n_layer && result_.restart.empty(); ++layer) {
        enter_layer(layer);
        compute_layer();
    }
    if (!result_.restart.empty()) return std::move(result_);
    result_.last_rows.resize(size_t(hparams_.n_embd) * size_t(n_rows()));
    stream_.read(0, n_rows(), result_.last_rows.data());
    return std::move(result_);
}

/// The layer as the design tells it: K and V of all rows, scores, selection, the compressed cache, and then attention
/// and MLP only for the rows that live on. A layer after which the prompt restarts needs no more than the scores.
void Prefill::compute_layer() {
    const LayerPlan plan = setup_.method.plan(setup_.params, {.layer = layer_,
                                                              .n_layer = hparams_.n_layer,
                                                              .n_prompt = int(prompt_.size()),
                                                              .n_rows = n_rows(),
                                                              .pass = pass_});
    const bool restart = plan.propagate && plan.propagate->restart;
    // above the last layer only the last row matters: it alone gives the logits
    const bool only_last_row = is_last() && !setup_.session.needs_all_rows();
    const int n_block_rows = restart ? 0 : only_last_row ? 1 : plan.propagate ? plan.propagate->count : n_rows();
    expand_weights(plan, n_block_rows);

    KvTensors kv = key_value_target(plan);
    if (restart) kv.v = nullptr;
    project_keys_values(kv);
    const Choice choice = choose_rows(plan, kv);
    if (restart) {
        result_.restart = choice.propagated;
        setup_.meter.advance(layer_, n_rows());
        return;
    }
    if (!plan.keep || plan.keep->count > 0) {
        fill_cache(choice, kv);
        start_eviction(kv);
        report_layer(choice);
    }

    const std::vector<int32_t> key_positions = positions_;
    attention_->set_keys(*device_, allocator_.get(), kv, key_positions, /*over=*/kv.k == scratch_.k);
    std::vector<int> rows = choice.propagated;
    if (only_last_row) {
        rows = {n_rows() - 1};
    } else if (rows.empty()) {
        rows.resize(size_t(n_rows()));
        std::iota(rows.begin(), rows.end(), 0);
    }
    keep_rows(rows);
    compute_block(rows);
}

/// Moves the residual stream, and what works on it, to the layer's device.
void Prefill::enter_layer(int layer) {
    layer_ = layer;
    const LayerWeights& weights = setup_.model.weights.layers[size_t(layer)];
    context_.emplace(LayerContext{hparams_, weights, layer_linears(weights)});
    if (stream_.device() == weights.device) return;
    stream_.move_to(*weights.device, n_rows());
    device_ = weights.device;
    choice_ = choose_kernels(*device_, setup_.model.params.compute);
    allocator_ = new_graph_allocator(*device_);
    expanded_ = std::make_unique<ExpandedWeights>(choice_.linear, allocator_.get(), setup_.model.expanded.get());
    attention_.emplace(hparams_, choice_, hparams_.n_head, hparams_.n_head_kv, n_rows());
    scratch_store_.reset();
}

namespace {

/// Rows whose queries are computed to score.
int scoring_rows(const ScorePlan& plan, int n_rows) {
    return plan.kind == ScoreKind::expected ? n_rows - plan.sinks : plan.n_query;
}

}  // namespace

/// Expands the matrices that enough rows will pass through.
void Prefill::expand_weights(const LayerPlan& plan, int n_block_rows) {
    if (!choice_.packed_linear) return;
    const int enough = min_rows_to_expand(choice_);
    LayerLinears& l = context_->linears;
    std::vector<Linear*> linears;
    if (n_rows() >= enough) linears = {&l.k, &l.v};
    if (n_block_rows >= enough || (plan.score && scoring_rows(*plan.score, n_rows()) >= enough))
        linears.push_back(&l.q);
    if (n_block_rows >= enough) linears.insert(linears.end(), {&l.o, &l.gate, &l.up, &l.down});
    expanded_->expand(*device_, linears);
}

/// Where K and V of all rows go: straight into the cache if it keeps them all as they are, else into the scratch
/// tensors.
KvTensors Prefill::key_value_target(const LayerPlan& plan) {
    const ggml_type type = compute_type(setup_.model.params.compute);
    if (!plan.keep) {
        const std::vector<int> capacity(size_t(hparams_.n_head_kv),
                                        cache_capacity(*device_, n_rows(), setup_.session.n_predict));
        result_.caches.emplace_back(*device_, setup_.cache_types, hparams_.head_dim, capacity);
        if (setup_.cache_types == KvTypes{type, type}) return result_.caches.back().tensors();
    }
    if (!scratch_store_) {
        scratch_store_ = std::make_unique<TensorStore>(*device_, 2);
        const int rows = kernels::PackedKv::room_for(n_rows());
        scratch_.k = scratch_store_->add(type, {hparams_.head_dim, rows, hparams_.n_head_kv});
        scratch_.v = scratch_store_->add(type, {hparams_.head_dim, rows, hparams_.n_head_kv});
        scratch_store_->allocate("the keys and values of one layer");
    }
    return scratch_;
}

void Prefill::project_keys_values(const KvTensors& kv) {
    const int chunk = prefill_chunk_rows(*device_);
    const int64_t head_rows = kv.k->ne[1];
    std::vector<int64_t> kv_rows;  // [rows of the chunk][n_head_kv]
    for (int first = 0; first < n_rows(); first += chunk) {
        const int n = std::min(chunk, n_rows() - first);
        kv_rows.clear();
        for (int row = first; row < first + n; ++row) {
            for (int head = 0; head < hparams_.n_head_kv; ++head) kv_rows.push_back(head * head_rows + row);
        }
        Graph graph(*device_, allocator_.get(), 64);
        ggml_tensor* positions = graph.input(GGML_TYPE_I32, {n}, positions_.data() + first);
        ggml_tensor* rows = graph.input(GGML_TYPE_I64, {int64_t(kv_rows.size())}, kv_rows.data());
        ggml_tensor* x = stream_.rows(graph.ctx(), first, n);
        const KvTensors written = build_keys_values(graph, *context_, x, positions, rows, kv);
        graph.compute(written.k);
        if (written.v) graph.compute(written.v);
        graph.run();
        setup_.meter.advance(layer_, 0);
    }
}

ScoredLayer Prefill::scored_layer(const KvTensors& kv) const {
    return {*device_, allocator_.get(), *context_, choice_, stream_.tensor(), 0, positions_, kv};
}

Choice Prefill::choose_rows(const LayerPlan& plan, const KvTensors& kv) {
    scores_ = plan.score ? score_tokens(scored_layer(kv), *plan.score) : Scores{};
    std::vector<int> spans;  // [n_rows] of the living rows
    if (!spans_.empty()) {
        for (const int32_t position : positions_) spans.push_back(spans_[size_t(position)]);
    }
    Choice choice = carry_out(plan, scores_,
                              {.n_group = hparams_.n_group(), .n_rows = n_rows(), .spans = spans, .earlier = totals_});
    totals_.push_back(std::move(choice.total));
    return choice;
}

/// Makes the layer's cache and gathers into it what every head keeps; where all rows are kept as they are it is there
/// and filled already.
void Prefill::fill_cache(const Choice& choice, const KvTensors& kv) {
    if (choice.kept.empty()) {
        const std::vector<int> all(positions_.begin(), positions_.end());
        LayerCache& cache = result_.caches.back();
        cache.set_filled({&all, 1});
        if (kv.k == cache.tensors().k) return;
        std::vector<int> rows(static_cast<size_t>(n_rows()));
        std::iota(rows.begin(), rows.end(), 0);
        copy_rows(kv, kv.k->ne[1], std::vector<std::vector<int>>(size_t(cache.n_head()), rows), cache,
                  allocator_.get());
        return;
    }
    const std::vector<std::vector<int>> rows = rows_of_heads(choice, hparams_.n_head_kv);
    std::vector<std::vector<int>> kept_positions = choice.kept;  // [cached heads][own count], or one list
    for (auto& head : kept_positions) {
        for (int& row : head) row = positions_[size_t(row)];
    }
    std::vector<int> capacity;  // [cached heads]
    for (const auto& head : rows) {
        capacity.push_back(cache_capacity(*device_, int(head.size()), setup_.session.n_predict));
    }
    result_.caches.emplace_back(*device_, setup_.cache_types, hparams_.head_dim, capacity);
    result_.caches.back().set_filled(kept_positions);
    copy_rows(kv, kv.k->ne[1], rows, result_.caches.back(), allocator_.get());
}

/// Hands the layer's eviction, if the method has one, what it begins with.
void Prefill::start_eviction(const KvTensors& kv) {
    std::unique_ptr<Eviction> eviction;
    if (setup_.method.eviction) {
        eviction = setup_.method.eviction(setup_.params, hparams_, layer_, int(prompt_.size()));
    }
    if (eviction) {
        const LayerCache& cache = result_.caches.back();
        std::vector<std::vector<int32_t>> positions;  // [cached heads][entries]
        std::vector<std::vector<float>> scores;       // [cached heads][entries]
        for (int head = 0; head < cache.n_head(); ++head) {
            positions.emplace_back(cache.positions(head).begin(), cache.positions(head).end());
        }
        if (eviction->reads_scores()) scores = entry_scores(positions);
        PromptAttention attention;
        if (eviction->prompt_rows() > 0) {
            attention = prompt_attention(scored_layer(kv), std::min(eviction->prompt_rows(), n_rows()));
        }
        eviction->start(positions, attention, scores);
    }
    result_.evictions.push_back(std::move(eviction));
}

/// The unpooled score of every cached entry, summed over the query heads that share its head: [cached heads][entries].
std::vector<std::vector<float>> Prefill::entry_scores(std::span<const std::vector<int32_t>> positions) const {
    std::vector<std::vector<float>> scores;
    const Scores by_head = scores_.n_head > 0 ? sum_groups(scores_, scores_.n_head / int(positions.size())) : Scores{};
    for (size_t head = 0; head < positions.size(); ++head) {
        std::vector<float>& own = scores.emplace_back();
        for (const int32_t position : positions[head]) {
            const auto row = std::lower_bound(positions_.begin(), positions_.end(), position) - positions_.begin();
            own.push_back(row < by_head.n_col ? by_head.row(int(head))[size_t(row)] : 0.0f);
        }
    }
    return scores;
}

/// Of the residual stream only the given rows live on, ascending. Chunks are moved in place: a chunk's rows lie at or
/// after the place that it is written to.
void Prefill::keep_rows(std::span<const int32_t> rows) {
    const int dropped = n_rows() - int(rows.size());
    if (dropped == 0) return;
    const int chunk = prefill_chunk_rows(*device_);
    for (int first = 0; first < int(rows.size()); first += chunk) {
        const int n = std::min(chunk, int(rows.size()) - first);
        Graph graph(*device_, allocator_.get(), 4);
        ggml_tensor* indices = graph.input(GGML_TYPE_I32, {n}, rows.data() + first);
        ggml_tensor* x = ggml_get_rows(graph.ctx(), stream_.rows(graph.ctx(), 0, n_rows()), indices);
        graph.compute(ggml_cpy(graph.ctx(), x, stream_.rows(graph.ctx(), first, n)));
        graph.run();
    }
    std::vector<int32_t> positions;
    for (const int32_t row : rows) positions.push_back(positions_[size_t(row)]);
    positions_ = std::move(positions);
    if (!is_last()) stream_.shrink(n_rows());
    setup_.meter.advance(layer_, dropped);
}

/// Attention and MLP for all rows that live on; `key_rows` are theirs among the keys.
void Prefill::compute_block(std::span<const int32_t> key_rows) {
    const int chunk = block_chunk_rows(*device_, choice_);
    for (int first = 0; first < n_rows(); first += chunk) {
        const int n = std::min(chunk, n_rows() - first);
        Graph graph(*device_, allocator_.get(), 96);
        ggml_tensor* positions = graph.input(GGML_TYPE_I32, {n}, positions_.data() + first);
        ggml_tensor* x = stream_.rows(graph.ctx(), first, n);
        graph.compute(build_block_in_place(graph, *context_, x, positions,
                                           attention_->of(key_rows.subspan(size_t(first), size_t(n)))));
        graph.run();
        setup_.meter.advance(layer_, n);
    }
}

void Prefill::report_layer(const Choice& choice) {
    const LayerCache& cache = result_.caches.back();
    LayerReport report;
    report.rows = n_rows();
    report.n_head_cached = cache.n_head();
    int64_t n_entry = 0;  // of all heads
    for (int head = 0; head < cache.n_head(); ++head) n_entry += cache.n_entry(head);
    report.cached = int(n_entry / cache.n_head());
    for (int head = 0; head < (cache.shares_positions() ? 1 : cache.n_head()); ++head) {
        report.kept.emplace_back(cache.positions(head).begin(), cache.positions(head).end());
    }
    for (int row : choice.propagated) report.propagated.push_back(positions_[size_t(row)]);
    result_.layers.push_back(std::move(report));
}

}  // namespace fastkv
