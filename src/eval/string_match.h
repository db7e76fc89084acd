// RULER's string match (arXiv 2404.06654), which also judges tuning prompts.
#pragma once

#include <string>
#include <vector>

namespace fastkv::eval {

/// The share of `references` that occur in `text`, in any case. 0 where there are none.
double share_contained(const std::string& text, const std::vector<std::string>& references);

/// ASCII letters in lower case.
std::string lower(std::string text);

}  // namespace fastkv::eval
