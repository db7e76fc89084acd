#include "eval/evaluation.h"

#include "eval/answer.h"

namespace fastkv::eval {

void Evaluation::ask(const Sample& sample, const Asking& asking, Row& row) const {
    const AnswerRules rules{sample.n_predict, sample.ends_at_newline, sample.forbids_empty};
    const Answer said =
        answer(asking.model, asking.method, asking.session, asking.prompt.tokens, rules, asking.progress);
    row.prediction = said.text;
    row.n_predicted = said.n_tokens;
    row.prefill_seconds = said.prefill_seconds;
    row.decode_seconds = said.decode_seconds;
    row.kv_cache_bytes = said.kv_cache_bytes;
    row.score = score(sample, said.text);
}

}  // namespace fastkv::eval
