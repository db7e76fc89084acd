#include "engine/extension.h"

#include <algorithm>
#include <numeric>

#include "engine/kernel_choice.h"
#include "engine/qkv.h"
#include "engine/scores.h"
#include "engine/turn_attention.h"
#include "fastkv/error.h"

namespace fastkv {

Extension::Extension(const Model::Impl& model, std::vector<LayerCache>& caches, std::span<const LayerPlan> recompress,
                     int n_predict, const ProgressCallback& progress)
    : model_(model),
      caches_(caches),
      recompress_(recompress),
      n_predict_(n_predict),
      progress_(progress),
      start_us_(ggml_time_us()) {}

std::vector<float> Extension::run(std::span<const Token> turn, int first_position) {
    positions_.resize(turn.size());
    std::iota(positions_.begin(), positions_.end(), first_position);
    progress_state_.n_layer = model_.hparams.n_layer;
    progress_state_.rows_total = int64_t(turn.size()) * model_.hparams.n_layer;
    ResidualStream stream(model_.weights, turn);
    for (int layer = 0; layer < model_.hparams.n_layer; ++layer) {
        const Device& device = *model_.weights.layers[size_t(layer)].device;
        if (stream.device() != &device) {
            stream.move_to(device, int(turn.size()));
            allocator_ = new_graph_allocator(device);
            expanded_ = std::make_unique<ExpandedWeights>(choose_kernels(device, model_.params.compute).linear,
                                                          allocator_.get(), model_.expanded.get());
        }
        extend_layer(layer, stream);
    }
    std::vector<float> last_row(size_t(model_.hparams.n_embd));
    stream.read(int(turn.size()) - 1, 1, last_row.data());
    return last_row;
}

void Extension::extend_layer(int layer, ResidualStream& stream) {
    const HyperParams& hp = model_.hparams;
    const LayerWeights& weights = model_.weights.layers[size_t(layer)];
    const KernelChoice kernels = choose_kernels(*weights.device, model_.params.compute);
    LayerCache& cache = caches_[size_t(layer)];
    LayerContext context{hp, weights, layer_linears(weights)};
    if (kernels.packed_linear && int(positions_.size()) >= min_rows_to_expand(kernels)) {
        expand_weights(context, *weights.device);
    }

    append_keys_values(context, stream, cache);
    Choice choice;
    if (!recompress_.empty()) choice = choose_entries(context, kernels, stream, cache, recompress_[size_t(layer)]);

    TurnAttention attention(hp, kernels, cache, allocator_.get());
    const int n_turn = int(positions_.size());
    const int first_row = layer + 1 == hp.n_layer ? n_turn - 1 : 0;  // above the last layer only the last row matters
    const int chunk = prefill_chunk_rows(*weights.device);
    for (int first = first_row; first < n_turn; first += chunk) {
        const int n = std::min(chunk, n_turn - first);
        Graph graph(*weights.device, allocator_.get(), 96 + attention.n_nodes());
        ggml_tensor* positions = graph.input(GGML_TYPE_I32, {n}, positions_.data() + first);
        ggml_tensor* x = stream.rows(graph.ctx(), first, n);
        graph.compute(build_block_in_place(graph, context, x, positions, attention.of(n_turn - first, n)));
        graph.run();
        advance(layer, n);
    }
    advance(layer, first_row);
    if (!choice.kept.empty()) cache = shortened(cache, choice);
}

/// Expands the matrices of a turn of enough rows.
void Extension::expand_weights(LayerContext& context, const Device& device) {
    LayerLinears& l = context.linears;
    Linear* linears[] = {&l.q, &l.k, &l.v, &l.o, &l.gate, &l.up, &l.down};
    expanded_->expand(device, linears);
}

void Extension::append_keys_values(const LayerContext& context, const ResidualStream& stream, LayerCache& cache) const {
    const int n_turn = int(positions_.size());
    bool moved = false;
    cache.append(positions_, moved);
    const int chunk = prefill_chunk_rows(cache.device());
    for (int first = 0; first < n_turn; first += chunk) {
        const int n = std::min(chunk, n_turn - first);
        std::vector<int64_t> kv_rows;  // [rows of the chunk][cached heads]
        for (int row = first; row < first + n; ++row) {
            for (int head = 0; head < cache.n_head(); ++head) {
                kv_rows.push_back(cache.row(head, cache.n_entry(head) - n_turn + row));
            }
        }
        Graph graph(cache.device(), allocator_.get(), 64);
        ggml_tensor* positions = graph.input(GGML_TYPE_I32, {n}, positions_.data() + first);
        ggml_tensor* rows = graph.input(GGML_TYPE_I64, {int64_t(kv_rows.size())}, kv_rows.data());
        ggml_tensor* x = stream.rows(graph.ctx(), first, n);
        const KvTensors written = build_keys_values(graph, context, x, positions, rows, cache.tensors());
        graph.compute(written.k);
        if (written.v) graph.compute(written.v);
        graph.run();
    }
}

/// Which entries stay, by the plan of a prompt as long as all turns: those of the turn score, as far as there are as
/// many as the plan wants, and entries stand for the plan's rows. Nothing is chosen while the cache fits the budget.
Choice Extension::choose_entries(const LayerContext& context, const KernelChoice& choice, const ResidualStream& stream,
                                 const LayerCache& cache, LayerPlan plan) const {
    const int n_entry = cache.n_entry(0), n_turn = int(positions_.size());
    if (!plan.keep || plan.keep->count >= n_entry) return {};
    plan.propagate.reset();
    // heads that were cached apart cannot share their entries again
    if (cache.n_head() > context.hparams.n_head_kv) plan.keep->per = SelectPer::query_head;
    std::vector<int> spans(static_cast<size_t>(n_entry));  // what lay between two entries may be gone: each is its own
    std::iota(spans.begin(), spans.end(), 0);
    Scores scores;
    if (plan.score) {
        plan.score->n_query = std::min(plan.score->n_query, n_turn);
        std::vector<int32_t> positions(static_cast<size_t>(n_entry - n_turn), 0);  // rows that have only keys
        positions.insert(positions.end(), positions_.begin(), positions_.end());
        scores = score_tokens({cache.device(), allocator_.get(), context, choice, stream.tensor(), n_entry - n_turn,
                               positions, cache.tensors()},
                              *plan.score);
    }
    return carry_out(plan, std::move(scores),
                     {.n_group = context.hparams.n_group(), .n_rows = n_entry, .spans = spans, .earlier = {}});
}

/// The cache with the chosen entries only.
LayerCache Extension::shortened(const LayerCache& cache, const Choice& choice) const {
    std::vector<int> capacity;  // [cached heads]
    const std::vector<std::vector<int>> entries = rows_of_heads(choice, cache.n_head());
    for (const auto& own : entries) {
        capacity.push_back(cache_capacity(cache.device(), int(own.size()), n_predict_));
    }
    const bool alike = choice.kept.size() == 1 && cache.shares_positions();
    const size_t n_share = entries.size() / size_t(cache.n_head());  // new heads that read one of the old
    std::vector<std::vector<int>> positions;                         // [cached heads][own count], or one list
    for (size_t head = 0; head < (alike ? 1 : entries.size()); ++head) {
        std::vector<int>& own = positions.emplace_back();
        for (const int entry : entries[head]) own.push_back(cache.positions(int(head / n_share))[size_t(entry)]);
    }
    LayerCache shorter(cache.device(), cache.types(), model_.hparams.head_dim, capacity);
    shorter.set_filled(positions);
    copy_rows(cache.tensors(), cache.capacity(0), entries, shorter, allocator_.get());
    return shorter;
}

void Extension::advance(int layer, int64_t rows) {
    progress_state_.layer = layer;
    progress_state_.rows_done += rows;
    progress_state_.seconds = double(ggml_time_us() - start_us_) * 1e-6;
    if (progress_ && !progress_(progress_state_)) throw Error(ErrorKind::cancelled, "the prefill was stopped");
}

}  // namespace fastkv
