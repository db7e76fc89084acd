// A conversation as text, and what of it the model has read.
#pragma once

#include <string>
#include <vector>

#include "fastkv/model.h"

namespace fastkv::cli {

/// Turns become text by the model's chat template. The model reads only what a turn adds; together that is what one
/// prompt of the whole conversation would be.
class Conversation {
  public:
    /// `system` and `document` may be empty; the document stands before the first question, in its message.
    Conversation(const Model& model, std::string system, std::string document);

    /// What is to be read for the next answer.
    struct Turn {
        std::vector<Token> tokens;
        bool from_start = false;  ///< the whole conversation, by a prefill
        bool rewritten = false;   ///< because the template changes what has been read
        std::string question;
        std::string text;  ///< the whole conversation, rendered up to where the answer begins
    };
    Turn turn(const std::string& question) const;

    /// The turn has been read and answered. `unread`: tokens of the answer that the model was not given back.
    void add(const Turn& turn, const std::string& answer, std::vector<Token> unread);

    /// The model has lost what it had read: the next turn begins at the start.
    void forget_read() { read_.clear(); }

    /// Back to before the first question.
    void clear();

    bool empty() const { return messages_.size() == n_system_; }

    /// Questions ("> ") and answers as text, without the document.
    std::string transcript() const;

  private:
    std::string unread_text(const std::string& text) const;

    const Model& model_;
    std::string document_;
    std::vector<ChatMessage> messages_;  // all that was said, the system's message first
    size_t n_system_ = 0;                // 1 with a system's message
    std::string first_question_;
    std::string read_;              // rendered up to where the last answer begins; empty: nothing has been read
    std::vector<Token> not_given_;  // the end of the last answer, as far as it has not been read
};

/// The lines of a question, each behind "> ".
std::string quoted(const std::string& question);

}  // namespace fastkv::cli
