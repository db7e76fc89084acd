// Texts that a user hands in, read and checked before any work begins.
#pragma once

#include <cstdio>
#include <string>

namespace fastkv::cli {

/// All that is left of an open stream. Throws Error(failure) calling it `name`.
std::string read_stream(std::FILE* stream, const std::string& name);

/// A whole file. Throws Error(failure) naming it.
std::string read_file(const std::string& path);

/// UTF-8 without a byte order mark and, as in llama.cpp, without the newline that ends a file. Throws Error(failure)
/// where `text`, called `name`, is none.
std::string checked_text(std::string text, const std::string& name);

/// A text file's checked text. Throws Error, usage where it is blank.
std::string read_text_file(const std::string& path);

/// Nothing but white space.
bool is_blank(const std::string& text);

/// Document and question as one message; either may be blank.
std::string join_message(const std::string& document, const std::string& question);

}  // namespace fastkv::cli
