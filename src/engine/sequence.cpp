#include "engine/sequence.h"

#include <algorithm>
#include <atomic>
#include <utility>

namespace fastkv {

namespace {

uint64_t new_layout() {
    static std::atomic<uint64_t> last{0};
    return ++last;
}

}  // namespace

Sequence::Sequence(const Model::Impl& model, std::vector<LayerCache>& caches,
                   std::vector<std::unique_ptr<Eviction>>& evictions, AttentionRecord* record)
    : model_(model),
      caches_(caches),
      evictions_(evictions),
      record_(record),
      inputs_(caches.size()),
      layout_(new_layout()) {}

void Sequence::set_sink_keys(int layer, std::vector<float> keys) {
    LayerInputs& inputs = inputs_[size_t(layer)];
    inputs.sink_shift.assign(keys.size() / size_t(caches_[size_t(layer)].n_head() * model_.hparams.head_dim), 0);
    inputs.sink_keys = std::move(keys);
}

void Sequence::append(int position) {
    position_ = position;
    for (size_t layer = 0; layer < caches_.size(); ++layer) {
        LayerCache& cache = caches_[layer];
        LayerInputs& inputs = inputs_[layer];
        read_sinks(int(layer));
        cache.append({&position_, 1}, changed_);
        inputs.kv_rows.resize(size_t(cache.n_head()));
        for (int head = 0; head < cache.n_head(); ++head) {
            inputs.kv_rows[size_t(head)] = cache.row(head, cache.n_entry(head) - 1);
        }
        place_sinks(int(layer));
        if (cache.device().own_kernels) continue;
        changed_ = update_groups(model_.hparams, cache, position, inputs.groups) || changed_;
    }
    if (changed_) layout_ = new_layout();
    changed_ = false;
}

bool Sequence::reads_attention(int layer) const {
    const Eviction* eviction = evictions_[size_t(layer)].get();
    return record_ || (eviction && eviction->reads_attention());
}

void Sequence::show(int layer, std::span<const std::vector<float>> attention) {
    LayerCache& cache = caches_[size_t(layer)];
    if (record_) record_->add(layer, cache, attention);
    Eviction* eviction = evictions_[size_t(layer)].get();
    if (!eviction) return;
    const auto removed = eviction->step(position_, attention);
    if (!removed.empty()) cache.remove(removed);
}

/// The sinks' keys of a rolling cache, from which they are turned anew for every token, so that no error grows. Until
/// all are there (a prompt may be shorter) none has been turned yet.
void Sequence::read_sinks(int layer) {
    const Eviction* eviction = evictions_[size_t(layer)].get();
    const LayerCache& cache = caches_[size_t(layer)];
    LayerInputs& inputs = inputs_[size_t(layer)];
    const int n_sink = eviction ? std::min(eviction->rolling_sinks(), cache.n_entry(0)) : 0;
    if (n_sink == int(inputs.sink_shift.size())) return;
    changed_ = true;
    const size_t dim = size_t(model_.hparams.head_dim), n_head = size_t(cache.n_head());
    std::vector<float> keys(size_t(n_sink) * dim);  // [sinks][head_dim]
    inputs.sink_keys.resize(size_t(n_sink) * n_head * dim);
    inputs.sink_shift.resize(size_t(n_sink));
    for (size_t head = 0; head < n_head; ++head) {
        cache.read_keys(int(head), n_sink, keys.data());
        for (size_t sink = 0; sink < size_t(n_sink); ++sink) {
            std::copy_n(keys.begin() + ptrdiff_t(sink * dim), dim,
                        inputs.sink_keys.begin() + ptrdiff_t((sink * n_head + head) * dim));
        }
    }
}

/// The sinks of a rolling cache stand as if the first entry of a cache without gaps were theirs.
void Sequence::place_sinks(int layer) {
    LayerCache& cache = caches_[size_t(layer)];
    LayerInputs& inputs = inputs_[size_t(layer)];
    if (inputs.sink_shift.empty()) return;
    std::fill(inputs.sink_shift.begin(), inputs.sink_shift.end(), position_ + 1 - cache.n_entry(0));
    if (model_.hparams.sliding_window > 0) cache.place_first(inputs.sink_shift);
    inputs.sink_rows.clear();
    for (int sink = 0; sink < int(inputs.sink_shift.size()); ++sink) {
        for (int head = 0; head < cache.n_head(); ++head) inputs.sink_rows.push_back(cache.row(head, sink));
    }
}

}  // namespace fastkv
