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

// The best of several answers, first lines of few-shot answers, means rounded as Python does, LongBench-E's thirds.
TEST(LongBenchScores, Sets) {
    for (const Json& set : vectors().at("sets")) {
        std::vector<LongBenchSample> samples;
        for (size_t i = 0; i < set["rows"].size(); ++i) {
            const Json& row = set["rows"][i];
            const auto classes = row["all_classes"].is_null() ? std::vector<std::string>()
                                                              : row["all_classes"].get<std::vector<std::string>>();
            const double score =
                longbench_score(find_longbench_set(set["dataset"]), row["pred"], row["answers"], classes);
            EXPECT_DOUBLE_EQ(score, set["scores"][i]) << row;
            samples.push_back({score, row["length"]});
        }
        const LongBenchMeans means = longbench_means(samples);
        EXPECT_EQ(means.all, set["score"].get<double>()) << set["dataset"];
        const char* names[] = {"0-4k", "4-8k", "8k+"};
        for (int i = 0; i < 3; ++i) {
            const Json& wanted = set["longbench_e"][names[i]];
            EXPECT_EQ(means.e[i], wanted.is_null() ? std::nullopt : std::optional(wanted.get<double>())) << names[i];
        }
    }
}

// Llama-3.1-8B-Instruct's full-context row of FastKV's paper, whose average is the mean of six means.
TEST(LongBenchScores, AveragesAreThePapers) {
    std::vector<SetMean> sets;
    const double means[] = {30.21, 45.53, 55.01, 56.01, 46.65, 31.28, 35.13, 25.28,
                            27.25, 73.00, 91.64, 43.80, 8.91,  99.50, 63.38, 56.64};
    for (size_t i = 0; i < 16; ++i) sets.push_back({longbench_sets()[i].name, means[i]});
    const LongBenchAverages averages = longbench_averages(sets);
    ASSERT_EQ(averages.groups.size(), 6u);
    EXPECT_TRUE(averages.missing.empty());
    EXPECT_NEAR(averages.mean_of_groups, 50.19, 0.005);
    EXPECT_NEAR(averages.mean_of_sets, 49.33, 0.005);
    EXPECT_EQ(averages.groups[0].set, "single-document QA");
    EXPECT_NEAR(averages.groups[0].mean, 43.58, 0.005);
    EXPECT_NEAR(averages.groups[5].mean, 60.01, 0.005);
}

TEST(LongBenchScores, AveragesOfSomeSetsSayWhichAreMissing) {
    const LongBenchAverages averages = longbench_averages({{"lcc", 40}, {"repobench-p", 60}, {"trec", 20}});
    EXPECT_DOUBLE_EQ(averages.mean_of_groups, 35);
    EXPECT_DOUBLE_EQ(averages.mean_of_sets, 40);
    EXPECT_EQ(averages.missing.size(), 13u);
    ASSERT_EQ(averages.groups.size(), 2u);
    EXPECT_EQ(averages.groups[1].set, "code");
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
