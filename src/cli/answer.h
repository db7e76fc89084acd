// An answer as it grows: sampled token by token, shown piece by piece.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "fastkv/fastkv.h"

namespace fastkv::cli {

/// What the loop over an answer adds to what the session knows.
struct Answer {
    std::vector<Token> tokens;        ///< as sampled, the one that ended the answer included
    std::vector<double> margins;      ///< logit of the best minus that of the second, per sampled token
    std::vector<float> first_logits;  ///< [n_vocab] after the prefill
    std::string text;                 ///< valid UTF-8
};

/// The difference between the two largest logits.
double top_margin(std::span<const float> logits);

/// Standard output, flushed piece by piece so that an answer can be read while it grows.
class AnswerStream {
  public:
    /// False once the reader has gone (a closed pipe), which is no error. Throws where writing fails otherwise.
    bool write(const std::string& text);

  private:
    bool reader_gone_ = false;
};

/// Why an answer is over.
enum class Stop { end_of_answer, length, context_full, interrupted, reader_gone };

std::string stop_text(Stop stop);

/// What ends an answer if it does not end itself.
struct AnswerLimits {
    int n_predict = 512;  ///< -1: none
    int n_ctx = 0;
};

/// Samples until something ends the answer, and shows it as it comes, a newline at its end. The session has read all of
/// it but the last token, whose logits nobody needs. `first_token` is called when there is one.
Stop stream_answer(const Model& model, Session& session, Sampler& sampler, const AnswerLimits& limits,
                   AnswerStream& out, Answer& answer, const std::function<void()>& first_token = {});

/// The value of -n. Throws Error(usage).
int parse_n_predict(const std::string& text);

}  // namespace fastkv::cli
