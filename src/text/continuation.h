// What a conversation adds to what a model has read of it.
#pragma once

#include <optional>
#include <string>

namespace fastkv::text {

/// `text` is a conversation as a chat template renders it; `read` is what it was when the model began to answer, and
/// `answer` what the model said. Returns what follows the answer in `text`, first of all what ends it; nothing where
/// `text` does not go on from there: another conversation, or a template that renders earlier turns otherwise than they
/// were read. Templates may strip an answer's white space.
std::optional<std::string> unread_text(const std::string& text, const std::string& read, const std::string& answer);

}  // namespace fastkv::text
