#include "cli/conversation.h"

#include <utility>

#include "cli/input_text.h"
#include "fastkv/error.h"

namespace fastkv::cli {

namespace {

std::string trimmed(const std::string& text) {
    const size_t first = text.find_first_not_of(" \t\r\n"), last = text.find_last_not_of(" \t\r\n");
    return first == std::string::npos ? "" : text.substr(first, last - first + 1);
}

}  // namespace

Conversation::Conversation(const Model& model, std::string system, std::string document)
    : model_(model), document_(std::move(document)) {
    if (!model.has_chat_template()) {
        fail(model.path() +
             " has no chat template that is known: use an instruction-tuned model, or 'fastkv run --raw'");
    }
    if (!system.empty()) messages_.push_back({"system", std::move(system)});
    n_system_ = messages_.size();
}

void Conversation::clear() {
    messages_.resize(n_system_);
    forget_read();
}

Conversation::Turn Conversation::turn(const std::string& question) const {
    std::vector<ChatMessage> messages = messages_;
    messages.push_back({"user", empty() ? join_message(document_, question) : question});
    Turn turn{.question = question, .text = model_.chat_prompt(messages)};
    const std::string rest = read_.empty() ? "" : unread_text(turn.text);
    turn.from_start = rest.empty();
    turn.rewritten = turn.from_start && !read_.empty();
    if (turn.from_start) {
        turn.tokens = model_.tokenize(turn.text, /*add_special=*/true, /*parse_special=*/true);
        return turn;
    }
    turn.tokens = not_given_;
    const std::vector<Token> added = model_.tokenize(rest, /*add_special=*/false, /*parse_special=*/true);
    turn.tokens.insert(turn.tokens.end(), added.begin(), added.end());
    return turn;
}

/// What `text` adds to what was read and answered: it begins with what ends the answer. Empty where the template
/// renders the turns before otherwise than they were read. Templates may strip an answer's white space.
std::string Conversation::unread_text(const std::string& text) const {
    if (!text.starts_with(read_)) return "";
    const std::string& answer = messages_.back().content;
    const std::string rest = text.substr(read_.size());
    if (rest.starts_with(answer)) return rest.substr(answer.size());
    const std::string stripped = trimmed(answer);
    const size_t first = rest.find_first_not_of(" \t\r\n");
    if (first == std::string::npos || rest.compare(first, stripped.size(), stripped) != 0) return "";
    return rest.substr(first + stripped.size());
}

void Conversation::add(const Turn& turn, const std::string& answer, std::vector<Token> unread) {
    if (empty()) first_question_ = turn.question;
    messages_.push_back({"user", empty() ? join_message(document_, turn.question) : turn.question});
    messages_.push_back({"assistant", answer});
    std::erase(messages_.back().content, '\0');  // a model may say it, templates cannot
    read_ = turn.text;
    not_given_ = std::move(unread);
}

std::string Conversation::transcript() const {
    std::string text;
    for (size_t i = n_system_; i < messages_.size(); ++i) {
        const bool asks = messages_[i].role == "user";
        text += asks ? quoted(i == n_system_ ? first_question_ : messages_[i].content) : messages_[i].content + "\n";
        if (asks) continue;
        text += "\n";
    }
    return text;
}

std::string quoted(const std::string& question) {
    std::string lines = "> ";
    for (const char c : question) {
        lines += c;
        if (c == '\n') lines += "> ";
    }
    return lines + "\n";
}

}  // namespace fastkv::cli
