// Which bytes are characters.
#pragma once

#include <string>
#include <string_view>

namespace fastkv::text {

/// Bytes at the front of `text` that are whole, valid UTF-8 characters. Equal to text.size() for valid text.
size_t valid_utf8_prefix(std::string_view text);

/// True if `text` could become a valid character by more bytes: the beginning of one that is cut off.
bool is_cut_utf8(std::string_view text);

/// Pieces of tokens go in, whole characters come out: a token may end in the middle of one.
class Utf8Stream {
  public:
    /// What can be shown after `piece`. Bytes that can never become a character turn into U+FFFD.
    std::string push(std::string_view piece);
    /// What is left at the end: nothing, or U+FFFD for a character that was never finished.
    std::string finish();

  private:
    std::string pending_;
};

}  // namespace fastkv::text
