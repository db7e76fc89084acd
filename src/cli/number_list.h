// Several whole numbers in one flag, as llama-bench takes them.
#pragma once

#include <string>
#include <vector>

namespace fastkv::cli {

/// "512,1000-4000+1000,512-8192*2": numbers, and ranges with a step (1 where none is given) or a factor; a range ends
/// at the last number that is not past its end. `kind` says what they are: "a number of tokens". Throws Error(usage)
/// where `text` is something else, a number is below `least`, or there are more than a thousand.
std::vector<int> parse_number_list(const std::string& flag, const std::string& text, const std::string& kind,
                                   int least);

}  // namespace fastkv::cli
