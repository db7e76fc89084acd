#include "cli/answer.h"

#include <cerrno>
#include <climits>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "cli/interrupt.h"
#include "cli/number_list.h"
#include "cli/options.h"
#include "cli/text.h"

namespace fastkv::cli {

double top_margin(std::span<const float> logits) {
    float best = -INFINITY, second = -INFINITY;
    for (const float logit : logits) {
        if (logit > best) {
            second = best;
            best = logit;
        } else if (logit > second) {
            second = logit;
        }
    }
    return double(best) - double(second);
}

bool AnswerStream::write(const std::string& text) {
    if (reader_gone_ || text.empty()) return !reader_gone_;
    const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
    if (written && std::fflush(stdout) == 0) return true;
    if (errno != EPIPE) fail(std::string("cannot write the answer: ") + std::strerror(errno));
    reader_gone_ = true;
    return false;
}

std::string stop_text(Stop stop) {
    switch (stop) {
        case Stop::end_of_answer: return "the answer ended";
        case Stop::length: return "-n tokens";
        case Stop::context_full: return "the context is full";
        case Stop::interrupted: return "interrupted";
        case Stop::reader_gone: return "nobody reads the answer";
    }
    return "";
}

Stop stream_answer(const Model& model, Session& session, Sampler& sampler, const AnswerLimits& limits,
                   AnswerStream& out, Answer& answer, const std::function<void()>& first_token) {
    const int limit = limits.n_predict < 0 ? INT_MAX : limits.n_predict;
    Utf8Stream utf8;
    const auto show = [&](const std::string& text) {
        answer.text += text;
        return out.write(text);
    };
    const auto generate = [&] {
        for (int n = 0; n < limit; ++n) {
            if (interrupted()) return Stop::interrupted;
            if (n > 0) {
                if (session.n_past() >= limits.n_ctx) return Stop::context_full;
                session.decode(answer.tokens.back());
            }
            answer.margins.push_back(top_margin(session.logits()));
            answer.tokens.push_back(sampler.sample(session.logits()));
            if (n == 0 && first_token) first_token();
            if (model.is_end_of_generation(answer.tokens.back())) return Stop::end_of_answer;
            if (!show(utf8.push(model.piece(answer.tokens.back())))) return Stop::reader_gone;
        }
        return Stop::length;
    };
    const Stop stop = generate();
    show(utf8.finish());
    if (!answer.tokens.empty()) out.write("\n");
    return stop;
}

int parse_n_predict(const std::string& text) { return whole_number("-n", text, "a number of tokens", /*least=*/-1); }

}  // namespace fastkv::cli
