// The texts that evaluations hide things in.
#pragma once

#include <string>

namespace fastkv::cli {

/// The text of a file, or all *.txt of a folder, in the order of their names, one behind the other. "": the essays in
/// the user's cache folder. Throws Error(failure) where there is no text, saying how to get the essays, or to name
/// others by `flag`.
std::string haystack_text(const std::string& path, const std::string& flag);

}  // namespace fastkv::cli
