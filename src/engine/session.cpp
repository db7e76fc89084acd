#include "fastkv/session.h"

#include <algorithm>
#include <optional>

#include "engine/decoder.h"
#include "engine/head.h"
#include "engine/prefill.h"
#include "fastkv/error.h"
#include "methods/schedule.h"
#include "model/memory.h"
#include "model/model_impl.h"

namespace fastkv {

struct Session::Impl {
    Model model;
    const MethodEntry& method;
    MethodParams params;  // resolved
    SessionParams session;
    Head head;

    int n_prompt = 0;
    int n_past = 0;
    std::vector<LayerCache> caches;   // [n_layer], empty before the prefill
    std::vector<LayerReport> layers;  // [n_layer]
    std::optional<Decoder> decoder;
    std::vector<float> row;         // [n_embd] residual stream of the newest token
    std::vector<float> logits;      // [n_vocab]
    std::vector<float> all_logits;  // [n_prompt][n_vocab] or empty
    PhaseStats prefill_stats;
    PhaseStats decode_stats;

    Impl(Model m, const MethodParams& method_params, const SessionParams& session_params)
        : model(std::move(m)),
          method(find_method(method_params.method)),
          params(method.resolve(method_params, model.hparams())),
          session(session_params),
          head(model.impl()),
          row(size_t(model.hparams().n_embd)),
          logits(size_t(model.hparams().n_vocab)) {}

    int n_ctx() const { return session.n_ctx > 0 ? session.n_ctx : model.hparams().n_ctx_train; }
    void check_prompt(std::span<const Token> prompt) const;
    void compute_logits(const std::vector<float>& last_rows);
};

void Session::Impl::check_prompt(std::span<const Token> prompt) const {
    if (prompt.empty()) refuse("the prompt is empty");
    if (int(prompt.size()) > n_ctx()) {
        fail("the prompt has " + std::to_string(prompt.size()) + " tokens, the context holds " +
             std::to_string(n_ctx()) + ": shorten it or raise the context (-c) if the model allows it");
    }
    for (Token token : prompt) {
        if (token < 0 || token >= model.hparams().n_vocab) {
            refuse("token " + std::to_string(token) + " is outside the vocabulary of " +
                   std::to_string(model.hparams().n_vocab));
        }
    }
    const auto planned = plan_prompt(method, params, model.hparams().n_layer, int(prompt.size()));
    if (session.all_logits && planned.back().passed != int(prompt.size())) {
        refuse("logits of every prompt token need every token in every layer: use --tsp-layer off or fullkv");
    }
    SessionParams within = session;
    within.n_predict = std::min(session.n_predict, n_ctx() - int(prompt.size()));
    require_memory(estimate(model, params, int(prompt.size()), within).peak_bytes(),
                   "a prompt of " + std::to_string(prompt.size()) + " tokens with " + params.method);
}

/// Logits of the last prompt token, and of all where they were asked for.
void Session::Impl::compute_logits(const std::vector<float>& last_rows) {
    const size_t n_embd = row.size();
    std::copy(last_rows.end() - ptrdiff_t(n_embd), last_rows.end(), row.begin());
    if (!session.all_logits) {
        head.run(row, logits);
        return;
    }
    all_logits.resize(size_t(n_prompt) * logits.size());
    head.run(last_rows, all_logits);
    std::copy(all_logits.end() - ptrdiff_t(logits.size()), all_logits.end(), logits.begin());
}

Session::Session(Model model, const MethodParams& method, const SessionParams& params)
    : impl_(std::make_unique<Impl>(std::move(model), method, params)) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

void Session::prefill(std::span<const Token> prompt, const ProgressCallback& progress) {
    Impl& s = *impl_;
    s.decoder.reset();
    s.caches.clear();
    s.layers.clear();
    s.n_prompt = s.n_past = 0;
    s.check_prompt(prompt);

    const int64_t start_us = ggml_time_us();
    SessionParams session = s.session;
    session.n_predict = std::min(session.n_predict, s.n_ctx() - int(prompt.size()));
    PrefillResult result = Prefill(s.model.impl(), s.method, s.params, session, prompt, progress).run();
    s.n_prompt = s.n_past = int(prompt.size());
    s.compute_logits(result.last_rows);
    s.caches = std::move(result.caches);
    s.layers = std::move(result.layers);
    s.decoder.emplace(s.model.impl(), s.caches);
    s.prefill_stats = {int64_t(prompt.size()), double(ggml_time_us() - start_us) * 1e-6};
    s.decode_stats = {};
}

void Session::decode(Token token) {
    Impl& s = *impl_;
    if (!s.decoder) refuse("decode() needs a prefill() first");
    if (token < 0 || token >= s.model.hparams().n_vocab) {
        refuse("token " + std::to_string(token) + " is outside the vocabulary");
    }
    if (s.n_past >= s.n_ctx()) fail("the context of " + std::to_string(s.n_ctx()) + " tokens is full");
    const int64_t start_us = ggml_time_us();
    s.decoder->run(token, s.n_past, s.row);
    s.head.run(s.row, s.logits);
    ++s.n_past;
    s.decode_stats.tokens += 1;
    s.decode_stats.seconds += double(ggml_time_us() - start_us) * 1e-6;
}

std::span<const float> Session::logits() const { return impl_->logits; }
std::span<const float> Session::all_logits() const { return impl_->all_logits; }
int Session::n_prompt() const { return impl_->n_prompt; }
int Session::n_past() const { return impl_->n_past; }
const MethodParams& Session::method() const { return impl_->params; }
std::span<const LayerReport> Session::layers() const { return impl_->layers; }
const PhaseStats& Session::prefill_stats() const { return impl_->prefill_stats; }
const PhaseStats& Session::decode_stats() const { return impl_->decode_stats; }

MemoryStats Session::memory() const {
    MemoryStats memory;
    for (const LayerCache& cache : impl_->caches) memory.kv_cache_bytes += cache.bytes();
    memory.weights_bytes = impl_->model.hparams().weights_bytes;
    memory.peak_rss_bytes = peak_rss_bytes();
    return memory;
}

}  // namespace fastkv
