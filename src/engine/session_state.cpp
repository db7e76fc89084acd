#include "engine/session_state.h"

#include <algorithm>
#include <functional>
#include <string>

#include "fastkv/error.h"

namespace fastkv {

namespace {

/// Of a cached row. Not asked of ggml, which ends the program where a file names a type that the heads do not fit.
size_t row_bytes(CacheType type, int head_dim) { return kernels::kv_row_size(kernel_type(type), head_dim); }

bool all_within(const std::vector<int>& values, int end) {
    return std::all_of(values.begin(), values.end(), [&](int value) { return value >= 0 && value < end; });
}

bool ascending(const std::vector<int>& values) {
    return std::adjacent_find(values.begin(), values.end(), std::greater_equal<>()) == values.end();
}

bool counts_fit(const SessionState& s) {
    const int n_token = int(s.tokens.size());
    const int n_start = s.restarted.empty() ? s.n_prompt : int(s.restarted.size());  // entries' positions go on there
    return s.n_prompt >= 1 && s.n_prompt <= n_token && s.n_past == n_start + n_token - s.n_prompt && s.n_chosen >= 1 &&
           s.n_chosen <= n_token && s.n_read >= 0 && s.n_read <= n_token && all_within(s.restarted, s.n_prompt) &&
           ascending(s.restarted);
}

bool newest_fits(const SessionState& s, const HyperParams& hp) {
    const size_t n_vocab = size_t(hp.n_vocab);
    const auto fits = [&](const std::vector<float>& logits) { return logits.empty() || logits.size() == n_vocab; };
    return all_within(s.tokens, hp.n_vocab) && s.row.size() == size_t(hp.n_embd) && fits(s.logits) &&
           fits(s.read_logits);
}

/// Entries that have not been thinned out since the prompt lie in order: later turns count on it.
bool cache_fits(const LayerState& layer, const SessionState& s, const HyperParams& hp) {
    const CacheState& cache = layer.cache;
    if (cache.n_head != hp.n_head_kv && cache.n_head != hp.n_head) return false;
    if (cache.positions.size() != 1 && cache.positions.size() != size_t(cache.n_head)) return false;
    for (const auto& positions : cache.positions) {
        if (!all_within(positions, s.n_past) || (!layer.eviction && !ascending(positions))) return false;
        if (positions.size() > size_t(s.n_past)) return false;
    }
    const size_t n_entry = size_t(cache.n_entry());
    const size_t n_frame = has_frame(kernel_type(s.type_k)) ? size_t(cache.n_head) * size_t(hp.head_dim) : 0;
    return cache.frame.offset.size() == n_frame && cache.frame.scale.size() == n_frame &&
           cache.k.size() == n_entry * row_bytes(s.type_k, hp.head_dim) &&
           cache.v.size() == n_entry * row_bytes(s.type_v, hp.head_dim);
}

bool report_fits(const LayerReport& report, const SessionState& s) {
    const bool lists =
        report.n_head_cached >= 1 && (report.kept.size() == 1 || int(report.kept.size()) == report.n_head_cached);
    const auto within = [&](const std::vector<int>& kept) { return all_within(kept, s.n_prompt); };
    return lists && report.rows >= 0 && report.cached >= 0 &&
           std::all_of(report.kept.begin(), report.kept.end(), within) && within(report.propagated);
}

}  // namespace

void check_state(const SessionState& state, const HyperParams& hparams, const std::string& source) {
    const auto layer_fits = [&](const LayerState& layer) {
        return cache_fits(layer, state, hparams) && report_fits(layer.report, state);
    };
    if (counts_fit(state) && newest_fits(state, hparams) && state.layers.size() == size_t(hparams.n_layer) &&
        std::all_of(state.layers.begin(), state.layers.end(), layer_fits)) {
        return;
    }
    fail(source + ": its parts do not fit each other: it is not what fastkv writes");
}

}  // namespace fastkv
