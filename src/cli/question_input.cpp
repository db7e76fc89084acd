#include "cli/question_input.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

#include "cli/input_text.h"
#include "fastkv/error.h"

namespace fastkv::cli {

namespace {

const std::string quotes = "\"\"\"";

}  // namespace

QuestionInput::QuestionInput() : is_terminal_(isatty(STDIN_FILENO) == 1) {}

/// One line without its end; nothing at the end of the input.
std::optional<std::string> QuestionInput::line(const char* prompt) {
    if (is_terminal_) {
        std::fputs(prompt, stderr);
        std::fflush(stderr);
    }
    char* buffer = nullptr;
    size_t capacity = 0;
    const ssize_t length = getline(&buffer, &capacity, stdin);
    const std::unique_ptr<char, void (*)(void*)> owner(buffer, std::free);
    if (length < 0) return std::nullopt;
    std::string text(buffer, size_t(length));
    if (text.ends_with('\n')) text.pop_back();
    if (text.ends_with('\r')) text.pop_back();
    return text;
}

/// The lines up to the closing quotes; `first` is what stands behind the opening ones.
std::string QuestionInput::quoted_block(std::string first) {
    std::string text = std::move(first);
    while (!text.ends_with(quotes)) {
        const std::optional<std::string> more = line("... ");
        if (!more && is_terminal_) return "";
        if (!more) refuse("standard input ended inside \"\"\": close the text with \"\"\"");
        text += "\n" + *more;
    }
    text.resize(text.size() - quotes.size());
    if (text.starts_with('\n')) text.erase(0, 1);
    return text;
}

std::optional<Question> QuestionInput::next() {
    while (std::optional<std::string> text = line("> ")) {
        Question question{.text = *text, .is_command = text->starts_with('/')};
        if (text->starts_with(quotes)) {
            question.text = quoted_block(text->substr(quotes.size()));
        } else if (!question.is_command) {
            while (question.text.ends_with('\\')) {
                question.text.back() = '\n';
                question.text += line("... ").value_or("");
            }
        }
        question.text = checked_text(question.text, "the question");
        if (!is_blank(question.text)) return question;
    }
    return std::nullopt;
}

}  // namespace fastkv::cli
