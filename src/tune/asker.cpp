#include "tune/asker.h"

#include <algorithm>
#include <utility>

#include "eval/prompt.h"
#include "eval/string_match.h"

namespace fastkv::tune {

Asker::Asker(Model model, const AskerParams& params, AnswerFile& file, std::function<bool()> go_on)
    : model_(std::move(model)), params_(params), file_(file), go_on_(std::move(go_on)) {}

std::vector<Token> Asker::tokens(const std::string& message) const {
    return eval::prompt_tokens(model_, message, !params_.raw);
}

Session Asker::read(const RetrievalPrompt& prompt, const MethodParams& method) {
    SessionParams session = params_.session;
    session.n_predict = prompt.n_predict;
    Session reader(model_, method, session);
    reader.prefill(tokens(prompt.message), [&](const PrefillProgress&) { return go_on_(); });
    return reader;
}

std::vector<float> Asker::hidden(const RetrievalPrompt& prompt, const MethodParams& method) {
    const Session session = read(prompt, method);
    return {session.hidden().begin(), session.hidden().end()};
}

Answer Asker::ask(const RetrievalPrompt& prompt, const MethodParams& method) {
    const std::string setting = method_text(resolve(method, model_.hparams()));
    if (const Answer* known = file_.find(prompt, setting)) return *known;
    Session session = read(prompt, method);
    Answer answer{.text = {}, .n_prompt = session.n_prompt()};
    for (int n = 0; n < prompt.n_predict && answer.score < 1; ++n) {
        if (!go_on_()) throw Error(ErrorKind::cancelled, "stopped between two tokens");
        const auto logits = session.logits();
        const auto next = Token(std::max_element(logits.begin(), logits.end()) - logits.begin());
        if (model_.is_end_of_generation(next)) break;
        answer.text += model_.piece(next);
        answer.score = eval::share_contained(answer.text, prompt.answers);
        if (n + 1 < prompt.n_predict && answer.score < 1) session.decode(next);
    }
    answer.right = answer.score >= 1;
    answer.seconds = session.prefill_stats().seconds + session.decode_stats().seconds;
    file_.add(prompt, setting, answer);
    return answer;
}

}  // namespace fastkv::tune
