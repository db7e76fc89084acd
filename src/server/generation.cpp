#include "server/generation.h"

#include <algorithm>
#include <climits>
#include <utility>

namespace fastkv::server {

namespace {

double seconds_between(Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double>(to - from).count();
}

/// Of a session that has read its prompt, in one piece or from where another stopped.
Kept kept_of(const Session& session, int n_layer) {
    Kept kept{.min = INT_MAX};
    for (int layer = 0; layer < n_layer; ++layer) {
        const int n_head = session.n_head_cached(layer);
        double entries = 0;
        for (int head = 0; head < n_head; ++head) entries += session.n_cached(layer, head);
        const int own = int(entries / n_head + 0.5);
        kept.min = std::min(kept.min, own);
        kept.max = std::max(kept.max, own);
        kept.mean += double(own) / n_layer;
    }
    return kept;
}

}  // namespace

Generation::Generation(const Model& model, Task& task, int index, SessionStore& store)
    : model_(model),
      task_(task),
      prompt_(task.params.prompts[size_t(index)]),
      index_(index),
      store_(store),
      sampler_(model, task.params.sampler),
      stop_(task.params.stop) {}

SessionParams Generation::session_params() {
    SessionParams params = task_.params.session;
    params.n_predict = reserve_of(task_.params);
    if (task_.params.scores_prompt()) {
        params.prompt_logits = [this](int first, std::span<const float> logits) { score_rows(first, logits); };
    }
    return params;
}

/// Each row of logits is what the model expects after its token: it scores the next.
void Generation::score_rows(int first, std::span<const float> logits) {
    const size_t n_vocab = size_t(model_.hparams().n_vocab);
    if (first == 0) prompt_logprobs_ = {{.text = model_.piece(prompt_[0], true), .logprob = {}, .top = {}}};
    for (size_t row = 0; row < logits.size() / n_vocab; ++row) {
        const size_t next = size_t(first) + row + 1;
        if (next == prompt_.size()) break;
        const auto own = logits.subspan(row * n_vocab, n_vocab);
        prompt_logprobs_.push_back(logprob_of(model_, own, prompt_[next], *task_.params.n_logprobs));
    }
}

/// The whole model reads all of the prompt.
Reading Generation::score_prompt(const ProgressCallback& progress) {
    Reading reading{.session = std::make_unique<Session>(model_, MethodParams{.method = "fullkv"}, session_params())};
    reading.session->prefill(prompt_, progress);
    reading.seconds = reading.session->prefill_stats().seconds;
    return reading;
}

void Generation::read(Stored stored, const ProgressCallback& progress) {
    Reading reading = task_.params.scores_prompt() ? score_prompt(progress)
                                                   : read_prompt(model_, task_.params, index_, session_params(),
                                                                 std::move(stored), store_, progress);
    session_ = std::move(reading.session);
    n_cached_ = reading.n_cached;
    read_seconds_ = reading.seconds;
    kept_ = kept_of(*session_, model_.hparams().n_layer);
    first_token_ = last_token_ = Clock::now();
    if (task_.params.report_layers) report_layers();
    if (task_.params.echo) echo_prompt();
    if (task_.params.max_tokens == 0) return finish("length");
    sample();
}

/// What became of the prompt, as soon as it is known.
void Generation::report_layers() {
    const std::span<const LayerReport> layers = session_->layers();
    auto report = std::make_shared<PromptReport>();
    report->pieces = pieces_of(model_, prompt_);
    report->layers.assign(layers.begin(), layers.end());
    task_.tell(Piece{.index = index_, .text = "", .report = std::move(report)});
}

/// The prompt as text before the answer. Stop texts in it do not count.
void Generation::echo_prompt() {
    text::Utf8Stream utf8;
    std::string text;
    for (size_t i = 0; i < prompt_.size(); ++i) {
        if (task_.params.scores_prompt()) prompt_logprobs_[i].begins_at = text.size();
        text += utf8.push(model_.piece(prompt_[i], /*special=*/true));
    }
    text += utf8.finish();
    n_text_ = n_said_ = text.size();
    task_.tell(Piece{index_, std::move(text), std::exchange(prompt_logprobs_, {})});
}

void Generation::sample() {
    const std::span<const float> logits = session_->logits();
    newest_ = sampler_.sample(logits);
    last_token_ = Clock::now();
    if (n_predicted_++ == 0) first_token_ = last_token_;
    if (model_.is_end_of_generation(newest_)) return finish("stop");

    if (task_.params.n_logprobs) {
        unsaid_.push_back(logprob_of(model_, logits, newest_, *task_.params.n_logprobs));
        unsaid_.back().begins_at = n_text_;
    }
    const std::string text = utf8_.push(model_.piece(newest_));
    n_text_ += text.size();
    say(stop_.push(text));
    if (stop_.found()) return finish("stop");
    const int limit = task_.params.max_tokens < 0 ? INT_MAX : task_.params.max_tokens;
    const int n_ctx = task_.params.session.n_ctx;
    if (n_predicted_ >= limit || session_->n_past() >= n_ctx) finish("length");
}

/// Tokens are told with the text that they begin.
void Generation::say(const std::string& text) {
    n_said_ += text.size();
    const auto begun = [&](const TokenLogprob& token) { return token.begins_at < n_said_; };
    const auto end = std::find_if_not(unsaid_.begin(), unsaid_.end(), begun);
    Piece piece{index_, text, {std::make_move_iterator(unsaid_.begin()), std::make_move_iterator(end)}};
    unsaid_.erase(unsaid_.begin(), end);
    if (!piece.text.empty() || !piece.logprobs.empty()) task_.tell(std::move(piece));
}

void Generation::finish(const char* reason) {
    done_ = true;
    reason_ = reason;
    if (stop_.found()) return;
    const std::string rest = stop_.push(utf8_.finish());
    say(rest + (stop_.found() ? "" : stop_.finish()));
    if (!unsaid_.empty()) task_.tell(Piece{index_, "", std::exchange(unsaid_, {})});  // tokens without text
}

uint64_t Generation::store_session() {
    if (task_.params.scores_prompt() || !task_.params.reuse || !store_.keeps()) return 0;
    try {
        return store_.add(std::move(*session_), task_.params.document_id);
    } catch (const std::exception&) {
        return 0;  // no memory for it: the answer has been given all the same
    }
}

Outcome Generation::outcome() const {
    Outcome outcome{.index = index_, .finish_reason = reason_, .method = session_->method()};
    outcome.n_prompt = int(prompt_.size());
    outcome.n_cached = n_cached_;
    outcome.n_predicted = n_predicted_;
    outcome.prompt_seconds = read_seconds_;
    outcome.predicted_seconds = seconds_between(first_token_, last_token_);
    outcome.first_token_seconds = seconds_between(task_.came, first_token_);
    outcome.kv_cache_bytes = session_->memory().kv_cache_bytes;
    outcome.kept = kept_;
    return outcome;
}

}  // namespace fastkv::server
