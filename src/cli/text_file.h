// Files that users hand in.
#pragma once

#include <cstdio>
#include <string>

namespace fastkv::cli {

/// All bytes of a file. Throws Error(failure) naming it.
std::string read_text_file(const std::string& path);

/// The same of an open stream; `name` is for messages.
std::string read_stream(std::FILE* stream, const std::string& name);

/// UTF-8 without a byte order mark and, as in llama.cpp, without the newline that ends a file. Throws Error(failure)
/// where it is not UTF-8.
std::string checked_text(std::string text, const std::string& name);

}  // namespace fastkv::cli
