#include "server/reading.h"

#include <algorithm>
#include <span>
#include <utility>

namespace fastkv::server {

namespace {

Reading go_on(Session stored, const std::vector<Token>& prompt, const ProgressCallback& progress) {
    Reading reading{.session = std::make_unique<Session>(std::move(stored))};
    reading.n_cached = int(reading.session->tokens().size());
    const auto rest = std::span(prompt).subspan(size_t(reading.n_cached));
    if (!rest.empty()) reading.session->extend(rest, /*recompress=*/false, progress);
    return reading;
}

/// From nothing. A session that cannot go back to its prompt is stored now as well, for those who ask the same again.
Reading begin(const Model& model, const std::vector<Token>& prompt, const TaskParams& task, const SessionParams& params,
              SessionStore& store, const ProgressCallback& progress) {
    Reading reading{.session = std::make_unique<Session>(model, task.method, params)};
    Session& session = *reading.session;
    const size_t n_first = task.n_document > 0 ? size_t(task.n_document) : prompt.size();
    session.prefill(std::span(prompt).first(n_first), progress);
    if (task.reuse && store.keeps() && !session.can_rewind()) store.add(session.fork(1), task.document_id);
    const auto question = std::span(prompt).subspan(n_first);
    if (!question.empty()) session.extend(question, /*recompress=*/false, progress);
    return reading;
}

}  // namespace

int reserve_of(const TaskParams& task) {
    constexpr int open_ended = 512;
    return task.max_tokens < 0 ? open_ended : std::min(task.max_tokens, open_ended);
}

Stored find_stored(const TaskParams& task, int index, SessionStore& store) {
    Stored stored{.began = Clock::now(), .session = {}};
    if (task.scores_prompt() || !task.reuse || !store.keeps()) return stored;
    stored.session = store.find({task.prompts[size_t(index)], task.method, task.document_id, reserve_of(task)});
    return stored;
}

Reading read_prompt(const Model& model, const TaskParams& task, int index, const SessionParams& params, Stored stored,
                    SessionStore& store, const ProgressCallback& progress) {
    const std::vector<Token>& prompt = task.prompts[size_t(index)];
    Reading reading = stored.session ? go_on(std::move(*stored.session), prompt, progress)
                                     : begin(model, prompt, task, params, store, progress);
    reading.seconds = std::chrono::duration<double>(Clock::now() - stored.began).count();
    return reading;
}

}  // namespace fastkv::server
