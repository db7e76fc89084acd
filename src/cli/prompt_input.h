// Where the prompt comes from: a file, the command line, standard input, or token ids in JSON.
#pragma once

#include <string>
#include <vector>

#include "fastkv/model.h"

namespace fastkv::cli {

struct PromptOptions {
    std::string file;         ///< -f; "-" is standard input
    std::string text;         ///< -p
    std::string question;     ///< -q
    std::string tokens_file;  ///< --tokens
    bool has_text = false;    ///< -p was given, if only ""
    bool raw = false;         ///< no chat template
};

/// The prompt as it will be read by the model, and as tokens.
struct Prompt {
    std::string text;  ///< empty for --tokens
    std::vector<Token> tokens;
};

/// What can be read before the model is there. Throws Error: usage for contradictions and an empty prompt, failure for
/// files that are missing, unreadable or not UTF-8.
class PromptInput {
  public:
    explicit PromptInput(const PromptOptions& options);

    /// Applies the chat template (document first, then the question, in one user message) and tokenizes. With a model
    /// that has no template the text goes in as with --raw, and a note says so.
    Prompt tokenize(const Model& model) const;

  private:
    PromptOptions options_;
    std::string message_;       // document and question
    std::vector<int64_t> ids_;  // of --tokens
};

}  // namespace fastkv::cli
