// Puts prompts to a model, under any method, and remembers what it said.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "fastkv/fastkv.h"
#include "tune/prompts.h"

namespace fastkv::tune {

struct Answer {
    double score = 0;     ///< share of the wanted answers that occur
    bool right = false;   ///< all of them do
    std::string text;     ///< up to where all had occurred, the answer ended, or n_predict tokens
    int n_prompt = 0;     ///< tokens
    double seconds = 0;   ///< reading and answering
    bool reused = false;  ///< not asked anew
};

/// Answers as JSON lines, so that a run that is cut off loses nothing and a second one asks only what is missing.
class AnswerFile {
  public:
    /// `path` is read if it exists and appended to; "": answers are kept for this run only. `engine` names what else an
    /// answer depends on (model, arithmetic). Throws Error(failure) where the file cannot be read or written.
    AnswerFile(const std::string& path, std::string engine);

    const Answer* find(const RetrievalPrompt& prompt, const std::string& method) const;

    /// Remembers the answer, adds its line and flushes it.
    void add(const RetrievalPrompt& prompt, const std::string& method, const Answer& answer);

  private:
    std::string path_, engine_;
    std::map<std::string, Answer> answers_;  // by engine, prompt and method
};

/// An answer as a JSON object in one line.
std::string answer_json(const RetrievalPrompt& prompt, const std::string& method, const std::string& engine,
                        const Answer& answer);

struct AskerParams {
    SessionParams session;
    bool raw = false;  ///< no chat template
};

class Asker {
  public:
    /// `go_on` is asked between chunks of work; false stops with Error(cancelled).
    Asker(Model model, const AskerParams& params, AnswerFile& file, std::function<bool()> go_on);

    /// Reads the prompt and answers, always the most likely token.
    Answer ask(const RetrievalPrompt& prompt, const MethodParams& method);

    /// [n_embd] residual stream of the prompt's last token after the last layer.
    std::vector<float> hidden(const RetrievalPrompt& prompt, const MethodParams& method);

    /// Tokens of a message as the model reads it.
    std::vector<Token> tokens(const std::string& message) const;

  private:
    Session read(const RetrievalPrompt& prompt, const MethodParams& method);

    Model model_;
    AskerParams params_;
    AnswerFile& file_;
    std::function<bool()> go_on_;
};

}  // namespace fastkv::tune
