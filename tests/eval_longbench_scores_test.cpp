// LongBench's scores against those of the Python packages that define them (data/make_longbench_scores.py).
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "eval/longbench_metrics.h"
#include "eval/longbench_sets.h"
#include "eval/python_text.h"
#include "eval/rouge_l.h"
#include "eval/sequence_matcher.h"
#include "fastkv/error.h"

namespace fastkv::eval {
namespace {

using Json = nlohmann::json;

const Json& vectors() {
    static const Json json = [] {
        std::ifstream file(FASTKV_TEST_DATA "/longbench_scores.json");
        return Json::parse(file);
    }();
    return json;
}

/// Rows [prediction, reference, score].
template <class Score>
void expect_scores(const char* name, Score score) {
    const Json& rows = vectors().at(name);
    ASSERT_GT(rows.size(), 50u);
    for (const Json& row : rows) {
        const std::string prediction = row[0], reference = row[1];
        EXPECT_DOUBLE_EQ(score(prediction, reference), row[2]) << row;
    }
}

TEST(LongBenchScores, QaF1) { expect_scores("qa_f1", qa_f1); }
TEST(LongBenchScores, RougeL) { expect_scores("rouge_l", rouge_l); }
TEST(LongBenchScores, Count) { expect_scores("count", count_score); }
TEST(LongBenchScores, Retrieval) { expect_scores("retrieval", retrieval_score); }
TEST(LongBenchScores, CodeSimilarity) { expect_scores("code_similarity", code_similarity); }

TEST(LongBenchScores, Classification) {
    for (const Json& row : vectors().at("classification")) {
        EXPECT_DOUBLE_EQ(classification_score(row[0].get<std::string>(), row[1].get<std::string>(), row[2]), row[3])
            << row;
    }
}

TEST(LongBenchScores, FirstLine) {
    for (const Json& row : vectors().at("first_line")) EXPECT_EQ(first_line(row[0].get<std::string>()), row[1]);
}

TEST(LongBenchScores, ARetrievalReferenceWithoutItsNumberIsAnError) {
    EXPECT_THROW(retrieval_score("5", "paragraph 5"), Error);
}

// The best of several answers, and the first lines of few-shot answers.
TEST(LongBenchScores, Sets) {
    for (const Json& set : vectors().at("sets")) {
        for (size_t i = 0; i < set["rows"].size(); ++i) {
            const Json& row = set["rows"][i];
            const auto classes = row["all_classes"].is_null() ? std::vector<std::string>()
                                                              : row["all_classes"].get<std::vector<std::string>>();
            const LongBenchSet& kind = find_longbench_set(set["dataset"]);
            EXPECT_DOUBLE_EQ(longbench_score(kind, row["pred"], row["answers"], classes), set["scores"][i]) << row;
        }
    }
}

TEST(LongBenchScores, AnUnknownSetIsRefused) { EXPECT_THROW(find_longbench_set("dureader"), Error); }

TEST(LongBenchScores, BytesThatAreNoUtf8AreOneReplacementEach) {
    EXPECT_EQ(python::code_points("a\xff\xfe\xe4\xbd z"), U"a\ufffd\ufffd\ufffd z");
    EXPECT_EQ(qa_f1("caf\xc3", "caf\xc3"), 1);
}

// From 200 characters on the common ones do not begin a block; they lengthen one, even an empty one at the beginning.
TEST(LongBenchScores, CommonCharactersOnlyBeginABlockInShortTexts) {
    const std::u32string x198(198, U'x'), x199(199, U'x');
    EXPECT_EQ(fuzz_ratio(U"x", U"y" + x198), 1);
    EXPECT_EQ(fuzz_ratio(U"x", U"y" + x199), 0);
    EXPECT_EQ(fuzz_ratio(U"x", x199 + U"y"), 1);
}

}  // namespace
}  // namespace fastkv::eval
