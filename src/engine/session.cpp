#include "fastkv/session.h"

#include <algorithm>

#include "engine/extension.h"
#include "engine/session_impl.h"
#include "fastkv/error.h"
#include "methods/schedule.h"
#include "methods/spans.h"
#include "model/memory.h"
#include "model/model_impl.h"

namespace fastkv {

namespace {

bool wants_spans(std::span<const PlannedLayer> layers) {
    return std::any_of(layers.begin(), layers.end(),
                       [](const PlannedLayer& layer) { return layer.plan.score && layer.plan.score->whole_spans; });
}

}  // namespace

/// Back to before the prefill.
void Session::Impl::clear() {
    sequence.reset();
    record.reset();
    caches.clear();
    evictions.clear();
    layers.clear();
    restarted.clear();
    tokens.clear();
    n_prompt = n_past = n_chosen = n_read = 0;
}

void Session::Impl::check_tokens(std::span<const Token> list) const {
    for (const Token token : list) {
        if (token < 0 || token >= model.hparams().n_vocab) {
            refuse("token " + std::to_string(token) + " is outside the vocabulary of " +
                   std::to_string(model.hparams().n_vocab));
        }
    }
}

void Session::Impl::check_prompt(std::span<const Token> prompt) const {
    if (prompt.empty()) refuse("the prompt is empty");
    if (int(prompt.size()) > n_ctx()) {
        fail("the prompt has " + std::to_string(prompt.size()) + " tokens, the context holds " +
             std::to_string(n_ctx()) + ": shorten it or raise the context (-c) if the model allows it");
    }
    check_tokens(prompt);
    const auto planned = plan_prompt(method, params, model.hparams().n_layer, int(prompt.size()));
    if (session.needs_all_rows() && planned.back().passed != int(prompt.size())) {
        refuse("logits of every prompt token need every token in every layer: use --tsp-layer off or fullkv");
    }
    const auto uneven = [](const PlannedLayer& layer) { return layer.plan.keep && layer.plan.keep->floor < 1; };
    if (session.record_attention && std::any_of(planned.begin(), planned.end(), uneven)) {
        refuse("attention is recorded only where all heads cache as many tokens: use --head-floor 1");
    }
    SessionParams within = session;
    within.n_predict = std::min(session.n_predict, n_ctx() - int(prompt.size()));
    require_memory(estimate(model, params, int(prompt.size()), within).peak_bytes(),
                   "a prompt of " + std::to_string(prompt.size()) + " tokens with " + params.method);
}

/// Reads the prompt, and reads again what a restart leaves of it.
PrefillResult Session::Impl::read(std::span<const Token> prompt, const ProgressCallback& progress) {
    const HyperParams& hp = model.hparams();
    SessionParams within = session;
    within.n_predict = std::min(session.n_predict, n_ctx() - int(prompt.size()));
    const auto planned = plan_prompt(method, params, hp.n_layer, int(prompt.size()));
    PrefillMeter meter(planned, hp.n_layer, progress);
    const PrefillSetup setup{model.impl(), method, params, within, types, meter};
    const std::vector<int> spans = wants_spans(planned) ? spans_of(prompt) : std::vector<int>();
    PrefillResult result = Prefill(setup, prompt, spans, 0).run();
    restarted = std::move(result.restart);
    if (restarted.empty()) return result;

    std::vector<Token> rest;
    for (const int position : restarted) rest.push_back(prompt[size_t(position)]);
    result = Prefill(setup, rest, {}, 1).run();
    const auto filter = std::find_if(planned.begin(), planned.end(), [](const PlannedLayer& l) {
        return l.plan.propagate && l.plan.propagate->restart;
    });
    for (LayerReport& layer : result.layers) {
        for (auto& own : layer.kept) {
            for (int& position : own) position = restarted[size_t(position)];
        }
    }
    result.layers[size_t(filter->at.layer)].propagated = restarted;
    return result;
}

/// The first token of every token's span, by what the text is.
std::vector<int> Session::Impl::spans_of(std::span<const Token> prompt) const {
    std::vector<std::string> pieces;
    for (const Token token : prompt) pieces.push_back(model.piece(token));
    return find_spans(pieces);
}

/// Logits of the last prompt token, and of all where they were asked for.
void Session::Impl::compute_logits(const std::vector<float>& last_rows) {
    std::copy(last_rows.end() - ptrdiff_t(row.size()), last_rows.end(), row.begin());
    if (!session.needs_all_rows()) {
        head.run(row, logits);
        return;
    }
    if (session.all_logits) all_logits.resize(size_t(n_prompt) * logits.size());
    head.run_each(last_rows, [&](int first, std::span<const float> some) {
        if (session.all_logits) std::copy(some.begin(), some.end(), &all_logits[size_t(first) * logits.size()]);
        if (session.prompt_logits) session.prompt_logits(first, some);
        std::copy(some.end() - ptrdiff_t(logits.size()), some.end(), logits.begin());
    });
}

/// Whether entries leave the caches token by token.
bool Session::Impl::evicts() const {
    return std::any_of(evictions.begin(), evictions.end(), [](const auto& eviction) { return eviction != nullptr; });
}

/// Whether what the method would do with a text that fills the context can be done again to its cache.
void Session::Impl::check_recompress() const {
    const std::string again = "--recompress: a cache of " + params.method + " cannot be cut again: ";
    bool cuts = false;
    for (const PlannedLayer& layer : plan_prompt(method, params, model.hparams().n_layer, n_ctx())) {
        const auto& [score, keep, propagate] = layer.plan;
        if (propagate && propagate->restart)
            refuse(again + "it chooses tokens once, for all layers, before they are read");
        if (method.eviction && method.eviction(params, model.hparams(), layer.at.layer, n_ctx())) {
            refuse(again + "with these parameters it drops entries by a rule of its own while the text grows");
        }
        if (score && score->kind == ScoreKind::expected) {
            refuse(again + "--score expected needs the queries of the whole text; use --score window");
        }
        if (keep && keep->floor < 1) refuse(again + "its heads differ in length; use --head-floor 1");
        cuts = cuts || keep;
    }
    if (!cuts) refuse("--recompress: with these parameters " + params.method + " keeps everything");
}

/// What each layer would keep of a prompt of `n_text` tokens. Layers that would get few rows and keep them all keep as
/// many, chosen as the rows were.
std::vector<LayerPlan> Session::Impl::plans_to_recompress(int n_text) const {
    std::vector<LayerPlan> plans;
    LayerPlan propagating;
    for (const PlannedLayer& layer : plan_prompt(method, params, model.hparams().n_layer, n_text)) {
        plans.push_back(layer.plan);
        if (!layer.plan.keep && propagating.propagate) {
            plans.back().score = propagating.score;
            plans.back().keep = KeepPlan{
                .count = layer.cached, .sinks = propagating.propagate->sinks, .tail = propagating.propagate->tail};
        }
        if (layer.plan.propagate) propagating = layer.plan;
    }
    return plans;
}

/// Whether there is room for the turn: in the context, and in memory for its entries and for the pass over it.
void Session::Impl::check_turn(std::span<const Token> turn) const {
    if (turn.empty()) refuse("the turn is empty");
    check_tokens(turn);
    const int n_text = n_past + int(turn.size());
    if (n_text > n_ctx()) {
        fail("the conversation would have " + std::to_string(n_text) + " tokens, the context holds " +
             std::to_string(n_ctx()) + ": start a new one or raise the context (-c) if the model allows it");
    }
    uint64_t entries = 0, longest = 0;  // bytes: of the turn in all layers, and of a layer while it moves
    int n_entry = 0;
    for (const LayerCache& cache : caches) {
        entries += cache_bytes(types, model.hparams().head_dim, cache.n_head(), int64_t(turn.size()) * cache.n_head());
        longest = std::max(longest, cache.bytes());
        n_entry = std::max(n_entry, cache.max_entry());
    }
    const int n_rows = std::min(n_entry + int(turn.size()), n_ctx());
    require_memory(entries + longest + estimate(model, params, n_rows, session).working_bytes,
                   "a turn of " + std::to_string(turn.size()) + " tokens");
}

/// A turn token by token, where entries leave between them.
void Session::Impl::decode_turn(std::span<const Token> turn, const ProgressCallback& progress) {
    const int64_t start_us = ggml_time_us();
    PrefillProgress state{.n_layer = model.hparams().n_layer, .rows_total = int64_t(turn.size())};
    for (const Token token : turn) {
        sequence->append(n_past + int(state.rows_done));
        run_decoder(token);
        ++state.rows_done;
        state.seconds = double(ggml_time_us() - start_us) * 1e-6;
        if (progress && !progress(state)) throw Error(ErrorKind::cancelled, "the prefill was stopped");
    }
}

/// Decoding begins anew, with the caches as they are now.
void Session::Impl::start_sequence() {
    record.reset();
    if (session.record_attention) {
        record.emplace(model.hparams().n_layer, model.hparams().n_head, n_prompt, restarted);
    }
    sequence.emplace(model.impl(), caches, evictions, record ? &*record : nullptr);
}

/// The token through all layers, by itself.
void Session::Impl::run_decoder(Token token) {
    if (!decoder) decoder.emplace(model.impl());
    Sequence* const own = &*sequence;
    decoder->run({&own, 1}, {&token, 1}, row);
}

void Session::Impl::begin_decode(Token token) {
    if (!sequence) refuse("decode() needs a prefill() first");
    check_tokens({&token, 1});
    if (n_past >= n_ctx()) fail("the context of " + std::to_string(n_ctx()) + " tokens is full");
    try {
        sequence->append(n_past);
    } catch (...) {
        clear();
        throw;
    }
    logits.resize(size_t(model.hparams().n_vocab));  // after rewind() there may be none
}

void Session::Impl::end_decode(Token token, double seconds) {
    ++n_past;
    tokens.push_back(token);
    decode_stats.tokens += 1;
    decode_stats.seconds += seconds;
}

/// What was just read ended here: rewind() finds the logits again.
void Session::Impl::mark_read() {
    n_read = int(tokens.size());
    read_logits = logits;
}

Session::Session(Model model, const MethodParams& method, const SessionParams& params)
    : impl_(std::make_unique<Impl>(std::move(model), method, params)) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

void Session::prefill(std::span<const Token> prompt, const ProgressCallback& progress) {
    Impl& s = *impl_;
    s.clear();
    s.check_prompt(prompt);

    const int64_t start_us = ggml_time_us();
    PrefillResult result = s.read(prompt, progress);
    s.n_prompt = int(prompt.size());
    s.n_past = s.restarted.empty() ? s.n_prompt : int(s.restarted.size());
    s.logits.resize(size_t(s.model.hparams().n_vocab));
    s.compute_logits(result.last_rows);
    s.caches = std::move(result.caches);
    s.evictions = std::move(result.evictions);
    s.layers = std::move(result.layers);
    s.start_sequence();
    s.tokens.assign(prompt.begin(), prompt.end());
    s.n_chosen = s.n_prompt;
    s.mark_read();
    s.prefill_stats = {int64_t(prompt.size()), double(ggml_time_us() - start_us) * 1e-6};
    s.decode_stats = {};
}

void Session::extend(std::span<const Token> turn, bool recompress, const ProgressCallback& progress) {
    Impl& s = *impl_;
    if (!s.sequence) refuse("extend() needs a prefill() first");
    s.check_turn(turn);
    std::vector<LayerPlan> plans;
    if (recompress) {
        s.check_recompress();
        plans = s.plans_to_recompress(s.n_past + int(turn.size()));
    }
    const int64_t start_us = ggml_time_us();
    try {
        if (s.evicts()) {
            s.decode_turn(turn, progress);
        } else {
            s.sequence.reset();  // it knows the caches' old places
            const int n_predict = std::min(s.session.n_predict, s.n_ctx() - s.n_past - int(turn.size()));
            s.row = Extension(s.model.impl(), s.caches, plans, n_predict, progress).run(turn, s.n_past);
            s.start_sequence();
        }
    } catch (...) {
        s.clear();
        throw;
    }
    s.logits.resize(size_t(s.model.hparams().n_vocab));
    s.head.run(s.row, s.logits);
    s.n_past += int(turn.size());
    s.tokens.insert(s.tokens.end(), turn.begin(), turn.end());
    if (recompress) s.n_chosen = int(s.tokens.size());
    s.mark_read();
    s.prefill_stats = {int64_t(turn.size()), double(ggml_time_us() - start_us) * 1e-6};
}

void Session::decode(Token token) {
    Impl& s = *impl_;
    const int64_t start_us = ggml_time_us();
    s.begin_decode(token);
    try {
        s.run_decoder(token);
        s.head.run(s.row, s.logits);
    } catch (...) {
        s.clear();
        throw;
    }
    s.end_decode(token, double(ggml_time_us() - start_us) * 1e-6);
}

std::span<const Token> Session::tokens() const { return impl_->tokens; }
std::span<const float> Session::logits() const { return impl_->logits; }
std::span<const float> Session::all_logits() const { return impl_->all_logits; }
std::span<const float> Session::hidden() const { return impl_->row; }
int Session::n_prompt() const { return impl_->n_prompt; }
int Session::n_past() const { return impl_->n_past; }
const MethodParams& Session::method() const { return impl_->params; }
std::span<const LayerReport> Session::layers() const { return impl_->layers; }
const PhaseStats& Session::prefill_stats() const { return impl_->prefill_stats; }
const PhaseStats& Session::decode_stats() const { return impl_->decode_stats; }

std::span<const float> Session::recorded_attention(int layer) const {
    if (!impl_->record) refuse("no attention is recorded: set SessionParams::record_attention, then prefill");
    return impl_->record->layer(layer);
}

void Session::check_recompress() const { impl_->check_recompress(); }

int Session::n_cached(int layer, int head) const { return impl_->caches.at(size_t(layer)).n_entry(head); }

int Session::n_head_cached(int layer) const { return impl_->caches.at(size_t(layer)).n_head(); }

std::vector<int> Session::cached_positions(int layer, int head) const {
    const auto positions = impl_->caches.at(size_t(layer)).positions(head);
    std::vector<int> original(positions.begin(), positions.end());
    const int n_restarted = int(impl_->restarted.size());  // their positions are those of a prompt of its own
    if (n_restarted == 0) return original;
    for (int& position : original) {
        position =
            position < n_restarted ? impl_->restarted[size_t(position)] : impl_->n_prompt + position - n_restarted;
    }
    return original;
}

MemoryStats Session::memory() const {
    MemoryStats memory;
    for (const LayerCache& cache : impl_->caches) memory.kv_cache_bytes += cache.bytes();
    memory.weights_bytes = impl_->model.hparams().weights_bytes;
    memory.peak_rss_bytes = peak_rss_bytes();
    return memory;
}

}  // namespace fastkv
