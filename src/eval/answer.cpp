#include "eval/answer.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace fastkv::eval {

namespace {

Token most_likely(const Model& model, std::span<const float> logits, bool may_end) {
    Token best = -1;
    for (Token token = 0; token < Token(logits.size()); ++token) {
        const bool better = best < 0 || logits[size_t(token)] > logits[size_t(best)];
        if (better && (may_end || !model.is_end_of_generation(token))) best = token;
    }
    return best;
}

}  // namespace

Answer answer(const Model& model, const MethodParams& method, SessionParams session_params,
              std::span<const Token> prompt, const AnswerRules& rules, const ProgressCallback& progress) {
    session_params.n_predict = rules.n_predict;
    Session session(model, method, session_params);
    PrefillProgress reading;
    session.prefill(prompt, [&](const PrefillProgress& now) { return progress(reading = now); });
    reading.rows_done = reading.rows_total;

    Answer answer;
    while (answer.n_tokens < rules.n_predict) {
        if (!progress(reading)) throw Error(ErrorKind::cancelled, "stopped between two tokens");
        const Token next = most_likely(model, session.logits(), !(rules.forbids_empty && answer.n_tokens == 0));
        ++answer.n_tokens;
        const std::string piece = model.piece(next);
        if (model.is_end_of_generation(next) || (rules.ends_at_newline && piece == "\n")) break;
        answer.text += piece;
        if (answer.n_tokens < rules.n_predict) session.decode(next);
    }
    answer.prefill_seconds = session.prefill_stats().seconds;
    answer.decode_seconds = session.decode_stats().seconds;
    answer.kv_cache_bytes = session.memory().kv_cache_bytes;
    return answer;
}

}  // namespace fastkv::eval
