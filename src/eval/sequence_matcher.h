// How alike two texts are, as difflib.SequenceMatcher of Python's standard library says it (Ratcliff and Obershelp).
#pragma once

#include <string_view>

namespace fastkv::eval {

/// 2 M / (characters of both), in [0, 1]: M characters stand in the longest common block, and, on either side of it, in
/// the longest blocks there. As SequenceMatcher(None, a, b).ratio() with its automatic junk: where b has 200 characters
/// or more, those that make up more than 1 % of it (plus one) cannot begin a block, only lengthen one.
double matching_ratio(std::u32string_view a, std::u32string_view b);

/// fuzz.ratio() of fuzzywuzzy 0.18 over difflib (without python-Levenshtein, which counts otherwise): the ratio in
/// percent, rounded half to even; 100 for equal texts, 0 where one is empty.
int fuzz_ratio(std::u32string_view a, std::u32string_view b);

}  // namespace fastkv::eval
