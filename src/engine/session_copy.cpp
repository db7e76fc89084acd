// A session's copies: in memory, in a file, and back to an earlier token.
#include <algorithm>
#include <string>
#include <utility>

#include "engine/durable_file.h"
#include "engine/session_file.h"
#include "engine/session_impl.h"
#include "fastkv/error.h"
#include "model/memory.h"

namespace fastkv {

namespace {

/// Those of a session that goes on from another's state.
SessionParams params_to_resume(SessionParams params, int n_predict) {
    params.n_predict = n_predict;
    params.all_logits = params.record_attention = false;
    params.prompt_logits = {};
    return params;
}

}  // namespace

SessionState Session::Impl::state_but_layers() const {
    const CacheTypes stored = resolve_cache_types({session.cache_type_k, session.cache_type_v}, params, model);
    return SessionState{.method = params,
                        .type_k = stored.k,
                        .type_v = stored.v,
                        .tokens = tokens,
                        .n_prompt = n_prompt,
                        .n_past = n_past,
                        .n_chosen = n_chosen,
                        .n_read = n_read,
                        .restarted = restarted,
                        .row = row,
                        .logits = logits,
                        .read_logits = read_logits,
                        .layers = {}};
}

LayerState Session::Impl::layer_state(int layer) const {
    LayerState state{.cache = caches[size_t(layer)].state(),
                     .sink_keys = sequence->inputs(layer).sink_keys,
                     .eviction = {},
                     .report = layers[size_t(layer)]};
    if (evictions[size_t(layer)]) state.eviction = evictions[size_t(layer)]->state();
    return state;
}

SessionState Session::Impl::state() const {
    SessionState state = state_but_layers();
    for (size_t layer = 0; layer < caches.size(); ++layer) state.layers.push_back(layer_state(int(layer)));
    return state;
}

/// From `state`, which check_state() has found right, and layers that are asked for one by one: each is freed as soon
/// as its cache is filled.
void Session::Impl::resume(SessionState state, const std::function<LayerState(int)>& layer_of,
                           const std::string& source) {
    tokens = std::move(state.tokens);
    n_prompt = state.n_prompt;
    n_past = state.n_past;
    n_chosen = state.n_chosen;
    n_read = state.n_read;
    restarted = std::move(state.restarted);
    row = std::move(state.row);
    logits = std::move(state.logits);
    read_logits = std::move(state.read_logits);
    std::vector<std::vector<float>> sink_keys;  // [n_layer]
    for (int layer = 0; layer < model.hparams().n_layer; ++layer) {
        LayerState own = layer_of(layer);
        sink_keys.push_back(std::move(own.sink_keys));
        resume_layer(layer, std::move(own), source);
    }
    start_sequence();
    for (size_t layer = 0; layer < sink_keys.size(); ++layer) {
        if (sink_keys[layer].empty()) continue;
        const int n_key = caches[layer].n_head() * model.hparams().head_dim;  // numbers of one sink
        const int n_sink = evictions[layer] ? std::min(evictions[layer]->rolling_sinks(), caches[layer].n_entry(0)) : 0;
        if (sink_keys[layer].size() != size_t(n_sink) * size_t(n_key))
            fail(source + ": its sinks are not its method's");
        sequence->set_sink_keys(int(layer), std::move(sink_keys[layer]));
    }
}

void Session::Impl::resume_layer(int layer, LayerState state, const std::string& source) {
    const HyperParams& hp = model.hparams();
    const Device& device = *model.impl().weights.layers[size_t(layer)].device;
    const int n_predict = std::min(session.n_predict, n_ctx() - n_past);
    caches.emplace_back(device, types, hp.head_dim, state.cache, n_predict);
    layers.push_back(std::move(state.report));

    const int n_start = restarted.empty() ? n_prompt : int(restarted.size());
    auto eviction = method.eviction ? method.eviction(params, hp, layer, n_start) : nullptr;
    std::vector<std::vector<int32_t>> positions;  // [cached heads][entries]
    for (int i = 0; i < caches.back().n_head(); ++i) {
        positions.emplace_back(caches.back().positions(i).begin(), caches.back().positions(i).end());
    }
    const bool fits = eviction ? state.eviction && eviction->resume(positions, *state.eviction) : !state.eviction;
    if (!fits) fail(source + ": what its method has counted in layer " + std::to_string(layer) + " does not fit");
    evictions.push_back(std::move(eviction));
}

/// The end of the prompt, of which everything is cached, is to be as if it had never been there.
void Session::Impl::forget_prompt(int n_tokens) {
    n_prompt = n_chosen = n_tokens;
    for (LayerReport& layer : layers) {
        layer.rows = std::min(layer.rows, n_tokens);
        layer.cached = std::min(layer.cached, n_tokens);
        for (auto& kept : layer.kept) kept.erase(std::ranges::lower_bound(kept, n_tokens), kept.end());
    }
}

Session Session::fork(int n_predict) const {
    const Impl& s = *impl_;
    if (!s.sequence) refuse("fork() needs a prefill() first");
    const char* what = "a copy of a session";
    require_memory(bytes() + bytes() / s.caches.size(), what);  // and a layer that it is made from
    Session copy(s.model, s.params, params_to_resume(s.session, n_predict));
    copy.impl_->resume(
        s.state_but_layers(), [&](int layer) { return s.layer_state(layer); }, what);
    return copy;
}

void Session::save(const std::string& path, const std::string& note) const {
    if (!impl_->sequence) refuse("save() needs a prefill() first");
    require_memory(2 * bytes(), path);
    write_durably(path, session_file(impl_->state(), impl_->model.hash(), rewindable_to(), note));
}

Session Session::load(const Model& model, const std::string& path, const SessionParams& params) {
    return from_bytes(model, read_bytes(path), path, params);
}

Session Session::from_bytes(const Model& model, std::span<const std::byte> bytes, const std::string& source,
                            const SessionParams& params) {
    require_memory(2 * bytes.size(), source);
    SessionState state = read_session_file(bytes, model.hparams(), model.hash(), source);
    try {
        Session session(model, state.method, params_to_resume(params, params.n_predict));
        const KvTypes& types = session.impl_->types;
        const CacheTypes given{params.cache_type_k, params.cache_type_v}, saved{state.type_k, state.type_v};
        if (resolve_cache_types(given, state.method, model) != saved) {
            refuse(std::string("its cache types are other than asked for, ") + ggml_type_name(types.k) + " and " +
                   ggml_type_name(types.v) + " (-ctk, -ctv)");
        }
        if (state.n_past > session.impl_->n_ctx()) {
            refuse("has " + std::to_string(state.n_past) + " tokens, the context holds " +
                   std::to_string(session.impl_->n_ctx()) + " (-c)");
        }
        auto layers = std::exchange(state.layers, {});
        const auto layer_of = [&](int layer) { return std::exchange(layers[size_t(layer)], {}); };
        session.impl_->resume(std::move(state), layer_of, source);
        return session;
    } catch (const Error& error) {
        if (error.kind() != ErrorKind::usage) throw;
        fail(source + ": " + error.what());
    }
}

SessionFileInfo inspect_session(const std::string& path) {
    const uint64_t end = session_head_end(read_bytes(path, session_preamble_size));
    SessionHead head = read_session_head(read_bytes(path, end), path);
    return {.model_hash = head.model_hash,
            .method = head.method_params(path),
            .cache_type_k = CacheType(head.type_k),
            .cache_type_v = CacheType(head.type_v),
            .tokens = std::move(head.tokens),
            .rewindable_to = head.rewindable_to,
            .note = std::move(head.note)};
}

bool Session::can_rewind() const { return !impl_->evicts(); }

int Session::rewindable_to() const {
    const Impl& s = *impl_;
    if (s.evicts()) return int(s.tokens.size());
    const auto holds_all = [&](const LayerCache& cache) {
        for (int head = 0; head < cache.n_head(); ++head) {
            if (cache.n_entry(head) != s.n_past) return false;
        }
        return true;
    };
    return s.restarted.empty() && std::all_of(s.caches.begin(), s.caches.end(), holds_all) ? 1 : s.n_chosen;
}

void Session::rewind(int n_tokens) {
    Impl& s = *impl_;
    const int n_token = int(s.tokens.size());
    if (!s.sequence) refuse("rewind() needs a prefill() first");
    if (n_tokens < rewindable_to() || n_tokens > n_token) {
        refuse("the session can be rewound to " + std::to_string(rewindable_to()) + " to " + std::to_string(n_token) +
               " tokens, not to " + std::to_string(n_tokens));
    }
    if (n_tokens == n_token) return;
    s.n_past -= n_token - n_tokens;
    for (LayerCache& cache : s.caches) cache.cut_back(s.n_past);
    s.tokens.resize(size_t(n_tokens));
    s.logits.clear();
    if (n_tokens == s.n_read) s.logits = s.read_logits;
    if (n_tokens < s.n_read) s.n_read = 0;
    if (n_tokens < s.n_prompt) s.forget_prompt(n_tokens);
    s.start_sequence();
}

uint64_t Session::bytes() const {
    const Impl& s = *impl_;
    uint64_t bytes = (s.row.size() + s.logits.size() + s.read_logits.size()) * sizeof(float);
    for (const LayerCache& cache : s.caches) {
        int64_t n_entry = 0;
        for (int head = 0; head < cache.n_head(); ++head) n_entry += cache.n_entry(head);
        bytes += cache_bytes(s.types, s.model.hparams().head_dim, cache.n_head(), n_entry);
    }
    return bytes;
}

}  // namespace fastkv
