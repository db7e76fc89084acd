// Tokens that belong together by what the text is, and scores that they share.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "methods/select.h"

namespace fastkv {

/// No span is longer, whatever the text says: half of a number is worth little (and a UUID has 36 characters), but a
/// wall of text without a space is no number.
constexpr int max_span = 40;

/// For each token the first token of its span. A span is what a reader would keep whole: a word with all its pieces, a
/// number with its separators, sign and unit (-3.14, 7,481,923, 12:30, 2024-11-24, $5.20, 45%), a code, a path or an
/// address (x_1, a UUID, ~/notes.txt, someone@example.org). White space ends a span, punctuation around it is a span of
/// its own; so is a token of a script that does not separate words. `pieces` are the tokens' bytes as they stand in the
/// text, leading spaces included; tokens may cut UTF-8 characters.
std::vector<int> find_spans(std::span<const std::string> pieces);

/// Every column gets the best score of its span's columns (max; NaN is ignored), or their mean (avg). `spans` names the
/// span of each column and may go on where the scores end, whose columns then have no say; neighbouring columns with
/// the same name are one span. So what is left of a span in a selection of rows is still one.
void pool_spans(Scores& scores, std::span<const int> spans, Pooling pooling);

}  // namespace fastkv
