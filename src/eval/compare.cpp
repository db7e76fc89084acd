#include "eval/compare.h"

#include <algorithm>
#include <map>
#include <set>

#include "eval/answer.h"
#include "eval/divergence.h"

namespace fastkv::eval {

namespace {

/// Opens a session and reads the prompt.
Session read_prompt(const Asking& asking, const MethodParams& method, int n_predict) {
    SessionParams params = asking.session;
    params.n_predict = n_predict;
    Session session(asking.model, method, params);
    session.prefill(asking.prompt.tokens, asking.progress);
    return session;
}

void stop_if_asked(const Asking& asking) {
    if (!asking.progress({})) throw Error(ErrorKind::cancelled, "stopped between two tokens");
}

/// All tokens of all answers of a setting: numbers under `key`.
std::vector<double> of_tokens(const std::vector<Row>& rows, const std::string& setting, const char* key) {
    std::vector<double> values;
    for (const Row& row : rows) {
        if (row.setting != setting || row.failed()) continue;
        const auto own = row.more.at(key).get<std::vector<double>>();
        values.insert(values.end(), own.begin(), own.end());
    }
    return values;
}

/// For every answer of a setting whether it is FullKV's.
std::vector<double> same_answers(const std::vector<Row>& rows, const std::string& setting) {
    std::vector<double> same;
    for (const Row& row : rows) {
        if (row.setting == setting && !row.failed()) same.push_back(row.score >= 1 ? 1 : 0);
    }
    return same;
}

std::string quoted(const std::string& text) {
    std::string result = "> ";
    for (const char c : text) result += c == '\n' ? "\n> " : std::string(1, c);
    return result;
}

}  // namespace

const Compare::FullAnswer& Compare::full_answer(const Sample& sample, const Asking& asking) const {
    if (full_ && full_->sample_id == sample.id) return *full_;
    full_.reset();
    FullAnswer full{.sample_id = sample.id, .tokens = {}, .logits = {}, .text = {}};
    Session session = read_prompt(asking, {.method = "fullkv"}, sample.n_predict);
    while (int(full.tokens.size()) < sample.n_predict) {
        stop_if_asked(asking);
        const auto logits = session.logits();
        const Token next = top_token(logits);
        full.tokens.push_back(next);
        full.logits.insert(full.logits.end(), logits.begin(), logits.end());
        if (asking.model.is_end_of_generation(next)) break;
        full.text += asking.model.piece(next);
        if (int(full.tokens.size()) < sample.n_predict) session.decode(next);
    }
    return full_.emplace(std::move(full));
}

void Compare::ask(const Sample& sample, const Asking& asking, Row& row) const {
    const FullAnswer& full = full_answer(sample, asking);
    row.references = {full.text};
    Session session = read_prompt(asking, asking.method, sample.n_predict);
    const size_t n_vocab = session.logits().size();
    Json kl = Json::array(), agrees = Json::array();
    int n_agree = 0;
    for (size_t i = 0; i < full.tokens.size(); ++i) {
        stop_if_asked(asking);
        const bool same = top_token(session.logits()) == full.tokens[i];
        kl.push_back(kl_divergence(std::span(full.logits).subspan(i * n_vocab, n_vocab), session.logits()));
        agrees.push_back(same ? 1 : 0);
        n_agree += same ? 1 : 0;
        if (i + 1 < full.tokens.size()) session.decode(full.tokens[i]);
    }
    row.score = double(n_agree) / double(full.tokens.size());
    row.more["kl"] = std::move(kl);
    row.more["agrees"] = std::move(agrees);
    row.prefill_seconds = session.prefill_stats().seconds;
    row.decode_seconds = session.decode_stats().seconds;
    row.kv_cache_bytes = session.memory().kv_cache_bytes;
    row.n_predicted = int(full.tokens.size());
    row.prediction = full.text;
    if (n_agree == int(full.tokens.size())) return;  // left alone it says the same
    const Answer own = answer(asking.model, asking.method, asking.session, asking.prompt.tokens,
                              {.n_predict = sample.n_predict}, asking.progress);
    row.prediction = own.text;
    row.n_predicted = own.n_tokens;
}

std::vector<Table> compare_tables(const std::vector<Row>& rows) {
    Table agreement = table_of(rows, "The most likely token is FullKV's, in % of answer tokens and of whole answers",
                               [](const Row&) { return "tokens"; });
    Table divergence = agreement;
    agreement.columns = {"tokens", "answers"};
    divergence.title = "KL(FullKV || method) per answer token, in nats";
    divergence.columns = {"KL"};
    divergence.scale = 1;
    divergence.digits = 4;
    for (size_t i = 0; i < agreement.lines.size(); ++i) {
        SettingLine &agrees = agreement.lines[i], &diverges = divergence.lines[i];
        const int n_failed = agrees.cells[0].n_failed;
        agrees.cells = {{mean_of(of_tokens(rows, agrees.setting, "agrees")), n_failed},
                        {mean_of(same_answers(rows, agrees.setting)), n_failed}};
        Mean kl = mean_of_values(of_tokens(rows, diverges.setting, "kl"));
        kl.interval.low = std::max(0.0, kl.interval.low);
        diverges.cells = {{kl, n_failed}};
    }
    return {agreement, divergence};
}

std::vector<std::pair<std::string, std::string>> Compare::files(const std::vector<Row>& rows) const {
    std::map<std::string, std::string> names;  // short ones, by setting
    for (const auto& [setting, name] : setting_names(rows)) names[setting] = name;
    std::string text;
    std::set<std::string> asked;
    for (const Row& first : rows) {
        if (!asked.insert(first.id).second) continue;
        text += "## " + first.task + ": " + first.more.value("question", "") + "\n\n";
        bool full_shown = false;
        for (const Row& row : rows) {
            if (row.id != first.id || row.failed()) continue;
            if (!full_shown) text += "FullKV:\n\n" + quoted(row.references.at(0)) + "\n\n";
            full_shown = true;
            if (row.method == "fullkv") continue;
            text += names[row.setting] + ":\n\n" + (row.score >= 1 ? "the same" : quoted(row.prediction)) + "\n\n";
        }
    }
    return {{"answers.md", text}};
}

}  // namespace fastkv::eval
