// What both ways of fastkv tune work with: a model, questions about a text, and how far it has come.
#pragma once

#include <string>
#include <vector>

#include "cli/countdown.h"
#include "cli/tune.h"
#include "tune/asker.h"
#include "tune/prompts.h"
#include "tune/settings.h"

namespace fastkv::cli {

class Bench {
  public:
    explicit Bench(const TuneOptions& options);
    Bench(const Bench&) = delete;
    Bench& operator=(const Bench&) = delete;

    /// Prompt `index` of the given length; tasks take turns.
    tune::RetrievalPrompt prompt(int length, int index) const;

    tune::Answer ask(const tune::RetrievalPrompt& prompt, const MethodParams& method) {
        return asker_.ask(prompt, method);
    }
    std::vector<float> hidden(const tune::RetrievalPrompt& prompt, const MethodParams& method) {
        return asker_.hidden(prompt, method);
    }

    /// What a prompt of `length` tokens costs, of FullKV.
    tune::Cost cost(const MethodParams& method, int length) const;

    const Model& model() const { return model_; }
    const std::string& engine() const { return engine_; }

  private:
    TuneOptions options_;
    Model model_;
    std::string engine_;
    tune::AnswerFile file_;
    tune::Asker asker_;
    tune::PromptMaker maker_;
};

/// The text that prompts are cut from, and what it is.
std::string tune_text(const TuneOptions& options);
std::string tune_text_name(const TuneOptions& options);

/// "31 of 32 (84 to 99 %)"
std::string share_text(int right, int asked);

int tune_check(const TuneOptions& options);
int tune_search(const TuneOptions& options);

}  // namespace fastkv::cli
