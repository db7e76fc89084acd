// Tokens that belong together by what the text is, and scores that they share, in place of a pooling kernel of one
// size.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "methods/select.h"

namespace fastkv {

/// No span is longer, whatever the text says: half of a number is worth little, but a wall of text without a space is
/// no number.
constexpr int max_span = 32;

/// For each token the first token of its span. A span is what a reader would keep whole: a word with all its pieces, a
/// number with its separators, sign and unit (-3.14, 7,481,923, 12:30, 2024-11-24, $5.20, 45%), a code, a path or an
/// address (x_1, a UUID, ~/notes.txt, someone@example.org). White space ends a span, punctuation around it is a span of
/// its own; so is a token of a script that does not separate words. `pieces` are the tokens' bytes as they stand in the
/// text, leading spaces included; tokens may cut UTF-8 characters.
std::vector<int> find_spans(std::span<const std::string> pieces);

/// The same for sentences: a span ends behind a full stop, question or exclamation mark that white space follows,
/// and behind a line. At most `max_tokens` long.
std::vector<int> find_sentences(std::span<const std::string> pieces, int max_tokens);

/// Every column gets the best score of its span's columns (max; NaN is ignored), or their mean (avg). `spans` names the
/// span of each column and may go on where the scores end, whose columns then have no say; neighbouring columns with
/// the same name are one span. So what is left of a span in a selection of rows is still one.
void pool_spans(Scores& scores, std::span<const int> spans, Pooling pooling);

/// How far a span's score carries.
struct SpanReach {
    int before = 0;   ///< spans before it, such as the words that say what a number is
    int after = 0;    ///< spans after it, such as the number that these words announce
    float decay = 1;  ///< factor per span on the way
};

/// Every column of a span gets the best score that the span has or that reaches it. Scores are not negative.
void spread_spans(Scores& scores, std::span<const int> spans, const SpanReach& reach);

}  // namespace fastkv
