// Text as Python's str treats it. LongBench's scores are defined by Python code, so what is a word, a digit or a lower
// case letter is what Python 3 says, on Unicode code points.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fastkv::eval::python {

/// Code points of UTF-8; what is not UTF-8 becomes U+FFFD, as bytes.decode("utf-8", "replace") does.
std::u32string code_points(std::string_view utf8);

/// str.lower(): full case mapping (İ becomes two code points, a final Σ becomes ς).
std::u32string lower(std::u32string_view text);

bool is_space(char32_t c);  ///< str.isspace()
bool is_digit(char32_t c);  ///< \d of a regular expression: a decimal digit of any script
bool is_word(char32_t c);   ///< \w: letters and numbers of any script, and "_"

/// str.split(): the pieces between white space, none of them empty.
std::vector<std::u32string> split(std::u32string_view text);

/// str.split(separator): one piece more than there are separators, empty ones too.
std::vector<std::u32string> split(std::u32string_view text, char32_t separator);

/// str.lstrip("\n")
std::u32string_view strip_leading_newlines(std::u32string_view text);

/// re.findall(r"\d+", text)
std::vector<std::u32string> digit_runs(std::u32string_view text);

/// `needle in text`
bool contains(std::u32string_view text, std::u32string_view needle);

}  // namespace fastkv::eval::python
