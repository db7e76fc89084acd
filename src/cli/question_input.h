// What a user of a conversation types: questions of one line or more, and commands.
#pragma once

#include <optional>
#include <string>

namespace fastkv::cli {

struct Question {
    std::string text;
    bool is_command = false;  ///< one line that begins with "/"
};

/// Reads standard input. A line is a question; one that ends with a backslash goes on in the next, and """ begins a
/// text of several lines that ends with """. Blank lines are skipped.
class QuestionInput {
  public:
    /// Whether a person types: then the input is prompted for.
    bool is_terminal() const { return is_terminal_; }

    /// The next question; nothing at the end of the input. Throws Error(usage) where that comes inside """ and nobody
    /// types, Error(failure) for text that is not UTF-8.
    std::optional<Question> next();

    QuestionInput();

  private:
    std::optional<std::string> line(const char* prompt);
    std::string quoted_block(std::string first);

    bool is_terminal_;
};

}  // namespace fastkv::cli
