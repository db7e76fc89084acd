// Retrieval prompts: something hidden in a text, a question about it at the end, and what the answer must contain.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "eval/source_text.h"

namespace fastkv::tune {

/// What is hidden. All but the first behave like one of RULER's tasks (arXiv 2404.06654), in words of our own.
enum class Task {
    number,  ///< one number in the text (needle in a haystack, niah_single)
    keys,    ///< four numbers, one is asked for (niah_multikey_1)
    values,  ///< four numbers of one name, all are asked for (niah_multivalue)
    lines,   ///< no text, only sentences with numbers, one is asked for (niah_multikey_2)
    uuids,   ///< the same with codes of 36 characters for names and values (niah_multikey_3)
};

const std::vector<std::pair<std::string, Task>>& task_names();

struct RetrievalPrompt {
    std::string kind;     ///< the task, or the name of the rows
    int index = 0;        ///< which of its kind and length
    int length = 0;       ///< tokens that were asked for; 0: as it came
    double depth = -1;    ///< share of the text before the answer; < 0: unknown
    std::string message;  ///< the user's message: text, then question
    std::vector<std::string> answers;
    int n_predict = 40;  ///< tokens that an answer may take

    /// Of everything that the model sees and is judged by, as 16 hexadecimal digits.
    std::string hash() const;
};

/// Makes prompts. The same seed, text and tokenizer give the same prompts, and prompt `index` does not depend on how
/// many there are; depths of successive ones spread over the text evenly.
class PromptMaker {
  public:
    /// `count` is of a piece of text, `count_prompt` of a message as the model reads it, chat template included.
    PromptMaker(eval::SourceText text, eval::CountTokens count, eval::CountTokens count_prompt, uint64_t seed);

    /// About `length` tokens, a sentence more or less. Throws Error(usage) where the question alone has more.
    RetrievalPrompt make(Task task, int length, int index) const;

  private:
    eval::SourceText text_;
    eval::CountTokens count_, count_prompt_;
    uint64_t seed_;
};

/// Prompts from JSON lines: {"input" | "question", "outputs" | "answers", and "context" or not}; `name` is for messages
/// and the prompts' kind. Throws Error(failure) that names the line.
std::vector<RetrievalPrompt> read_rows(std::string_view content, const std::string& name);

}  // namespace fastkv::tune
