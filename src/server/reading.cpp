#include "server/reading.h"

#include <span>
#include <utility>

namespace fastkv::server {

namespace {

/// From a stored session.
std::optional<Reading> go_on(const std::vector<Token>& prompt, const TaskParams& task, const SessionParams& params,
                             SessionStore& store, const ProgressCallback& progress) {
    auto stored = store.find({prompt, task.method, task.document_id, params.n_predict});
    if (!stored) return {};
    Reading reading{.session = std::make_unique<Session>(std::move(*stored))};
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

Reading read_prompt(const Model& model, const TaskParams& task, int index, const SessionParams& params,
                    SessionStore& store, const ProgressCallback& progress) {
    const std::vector<Token>& prompt = task.prompts[size_t(index)];
    const Clock::time_point start = Clock::now();
    std::optional<Reading> reading;
    if (task.reuse && store.keeps()) reading = go_on(prompt, task, params, store, progress);
    if (!reading) reading = begin(model, prompt, task, params, store, progress);
    reading->seconds = std::chrono::duration<double>(Clock::now() - start).count();
    return std::move(*reading);
}

}  // namespace fastkv::server
