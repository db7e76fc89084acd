// Spans: which tokens a reader would keep whole, and scores that they share.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "methods/spans.h"

namespace fastkv {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

using Pieces = std::vector<std::string>;

// The pieces with a bar where a span ends: "the| magic| 7481|".
std::string marked(const Pieces& pieces, const std::vector<int>& spans) {
    std::string text;
    for (size_t i = 0; i < pieces.size(); ++i) {
        text += pieces[i];
        if (i + 1 == pieces.size() || spans[i + 1] != spans[i]) text += '|';
    }
    return text;
}

// One token per byte: every boundary that there can be.
std::string by_byte(const std::string& text) {
    Pieces pieces;
    for (char c : text) pieces.emplace_back(1, c);
    return marked(pieces, find_spans(pieces));
}

TEST(Spans, NameTheirFirstToken) {
    EXPECT_THAT(find_spans(Pieces{" number", " is", " 74", "81", "923", "."}), ElementsAre(0, 1, 2, 2, 2, 5));
    EXPECT_THAT(find_spans({}), IsEmpty());
}

TEST(Spans, KeepNumbersWithTheirSeparators) {
    for (const char* number : {"7,481,923", "3.14", "12:30", "2024-11-24", "1/2", "-5", "$5.20", "45%", "+49-30",
                               "5\u20ac", "\u20ac5", "0x1F", "10th", "7'481"}) {
        EXPECT_EQ(by_byte(number), std::string(number) + "|");
    }
    EXPECT_EQ(by_byte("in 3, 4."), "in| |3|,| |4|.|");
}

TEST(Spans, KeepWordsAndCodes) {
    for (const char* code : {"x_1", "8f14e45f-ceea-467a-9575-6a2f5a2b1c3d", "someone@example.org", "~/notes.txt",
                             "/usr/lib", "https://example.org/a?b=1", "C:\\data", "don't", "don\u2019t", "odd-shaped",
                             "na\u00efve", "\u043c\u043e\u0441\u043a\u0432\u0430"}) {
        EXPECT_EQ(by_byte(code).substr(0, max_span), (std::string(code) + "|").substr(0, max_span));
    }
    EXPECT_EQ(by_byte("one,two--three...four"), "one|,|two|-|-|three|.|.|.|four|");
    EXPECT_EQ(by_byte("(a) \"b\""), "(|a|)| |\"|b|\"|");
}

// Chinese and Japanese characters stand alone, but are never cut.
TEST(Spans, DoNotCutCharacters) {
    EXPECT_EQ(by_byte("\u6771\u4eac"), "\u6771|\u4eac|");
    EXPECT_EQ(by_byte("\u201ca\u201d"), "\u201c|a|\u201d|");
    const Pieces cut = {"caf\xc3", "\xa9", " x"};
    EXPECT_THAT(find_spans(cut), ElementsAre(0, 0, 2));
    // What is no UTF-8 stands alone.
    EXPECT_THAT(find_spans(Pieces{"\xff", "\xc3", "a", "\x80", "\xf0\x9f"}), ElementsAre(0, 1, 2, 3, 4));
}

TEST(Spans, EndWithALineAndAtTheirBound) {
    EXPECT_EQ(by_byte("12\n34"), "12|\n|34|");
    const Pieces digits(size_t(max_span) * 2 + 3, "7");
    const std::vector<int> spans = find_spans(digits);
    EXPECT_EQ(spans[size_t(max_span) - 1], 0);
    EXPECT_EQ(spans[size_t(max_span)], max_span);
    EXPECT_EQ(spans.back(), 2 * max_span);
}

// Tokens without text, such as control tokens, end nothing and begin nothing that has a boundary elsewhere.
TEST(Spans, EmptyPiecesAndPunctuationInOneTokenWithAWord) {
    EXPECT_THAT(find_spans(Pieces{"", " ab", "", "c"}), ElementsAre(0, 1, 1, 1));
    EXPECT_THAT(find_spans(Pieces{"(", "\"ab", "c.", "\n", "d"}), ElementsAre(0, 1, 1, 3, 4));
}

Scores scores_of(std::vector<float> values) { return {.n_head = 1, .n_col = int(values.size()), .values = values}; }

TEST(PoolSpans, GivesEveryColumnTheBestOrTheMeanOfItsSpan) {
    const std::vector<int> spans = {0, 1, 1, 1,
                                    4, 5, 5, 5};  // longer than the scores: the last span reaches into the tail
    Scores best = scores_of({5, 1, 3, 2, 0, 4, 6});
    pool_spans(best, spans, Pooling::max);
    EXPECT_THAT(best.values, ElementsAre(5, 3, 3, 3, 0, 6, 6));
    Scores mean = scores_of({5, 1, 3, 2, 0, 4, 6});
    pool_spans(mean, spans, Pooling::avg);
    EXPECT_THAT(mean.values, ElementsAre(5, 2, 2, 2, 0, 5, 5));
}

TEST(PoolSpans, KeepsHeadsApartAndIgnoresNaN) {
    const float nan = std::nanf("");
    Scores scores{.n_head = 2, .n_col = 5, .values = {1, nan, nan, 0, 2, 7, 9, 8, 0, 8}};
    pool_spans(scores, std::vector<int>{0, 0, 0, 0, 4}, Pooling::max);
    EXPECT_THAT(scores.values, ElementsAre(1, 1, 1, 1, 2, 9, 9, 9, 9, 8));
    Scores none;
    pool_spans(none, std::vector<int>{0, 0}, Pooling::max);
    EXPECT_THAT(none.values, IsEmpty());
}

// In a selection of rows a span goes by its first token, even where that was dropped.
TEST(PoolSpans, WorksOnWhatIsLeftOfASpan) {
    Scores scores = scores_of({1, 2, 3, 4});
    pool_spans(scores, std::vector<int>{7, 7, 9, 12}, Pooling::max);
    EXPECT_THAT(scores.values, ElementsAre(2, 2, 3, 4));
}

}  // namespace
}  // namespace fastkv
