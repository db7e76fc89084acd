// A prompt as token ids, in JSON.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fastkv/model.h"

namespace fastkv::cli {

/// The numbers of a file that holds a JSON array, or an object with one named "prompt_tokens". Throws Error: failure
/// where the file is something else, usage where it holds none.
std::vector<int64_t> read_token_ids(const std::string& path);

/// They as tokens. Throws Error(failure), naming `path`, for one outside the vocabulary.
std::vector<Token> checked_tokens(const std::vector<int64_t>& ids, const std::string& path, int n_vocab);

}  // namespace fastkv::cli
