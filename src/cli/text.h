// Text on its way in and out: UTF-8, and numbers as people read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "eval/format.h"

namespace fastkv::cli {

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

std::string bytes_text(uint64_t bytes);    ///< "8.2 MiB"
std::string count_text(int64_t count);     ///< "3,512"
std::string seconds_text(double seconds);  ///< "0.42 s", "3 min 20 s"

using eval::format;

}  // namespace fastkv::cli
