// Whole numbers in flags: one, or several as llama-bench takes them.
#pragma once

#include <climits>
#include <string>
#include <vector>

namespace fastkv::cli {

/// The whole of `text` as a number from `least` to `most`. Throws Error(usage): "-n many is not a number of tokens",
/// "-r 0 is too small: at least 1".
int whole_number(const std::string& flag, const std::string& text, const std::string& kind, int least = INT_MIN,
                 int most = INT_MAX);

/// "512,1000-4000+1000,512-8192*2": numbers, and ranges with a step (1 where none is given) or a factor; a range ends
/// at the last number that is not past its end. `kind` says what they are: "a number of tokens". Throws Error(usage)
/// where `text` is something else, a number is not from `least` to `most`, or there are more than a thousand.
std::vector<int> parse_number_list(const std::string& flag, const std::string& text, const std::string& kind, int least,
                                   int most = INT_MAX);

}  // namespace fastkv::cli
