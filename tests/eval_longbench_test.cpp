// LongBench as an evaluation: its files, prompts, tables and averages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "eval/longbench.h"
#include "fastkv/error.h"
#include "support/process.h"
#include "support/tiny_model.h"

namespace fastkv::eval {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

LongBenchData small_data() {
    return {
        {"dataset2prompt.json",
         R"({"trec": "Kinds.\n\n{context}\n{input}", "qmsum": "{context}\nQuery: {input}\nAnswer:", "lcc": "{context}"})"},
        {"dataset2maxlen.json", R"({"trec": 64, "qmsum": 512, "lcc": 64})"},
        {{"trec",
          {"trec.jsonl",
           R"({"input": "Type:", "context": "Q", "answers": ["City"], "length": 9, "all_classes": ["City", "State"], "_id": "x1"})"
           "\n\n"
           R"({"input": "T", "context": "R", "answers": ["State"], "length": 5000, "all_classes": ["City", "State"]})"}},
         {"qmsum",
          {"qmsum.jsonl", R"({"input": "Why?", "context": "{So}", "answers": ["a b.", "c d."], "length": 8000})"}}}};
}

Error error_of(const LongBenchData& data, const LongBenchParams& params = {.sets = {"trec", "qmsum"}}) {
    try {
        (void)LongBench(params, data);
    } catch (const Error& error) {
        return error;
    }
    return {ErrorKind::failure, "no error"};
}

TEST(LongBench, AsksTheSetsInTurn) {
    const LongBench longbench({.sets = {"trec", "qmsum"}}, small_data());
    const auto samples = longbench.samples();
    ASSERT_EQ(samples.size(), 3u);
    EXPECT_EQ(samples[0].id, "trec/0");
    EXPECT_EQ(samples[1].id, "qmsum/0");
    EXPECT_EQ(samples[2].id, "trec/1");
    const Sample trec = longbench.make(0), qmsum = longbench.make(1);
    EXPECT_EQ(trec.message, "Kinds.\n\nQ\nType:");
    EXPECT_FALSE(trec.chat);
    EXPECT_EQ(trec.n_predict, 64);
    EXPECT_EQ(trec.more["_id"], "x1");
    EXPECT_TRUE(trec.forbids_empty);
    EXPECT_EQ(qmsum.message, "{So}\nQuery: Why?\nAnswer:");  // braces of a text are no placeholders
    EXPECT_TRUE(qmsum.chat);
    EXPECT_EQ(qmsum.n_predict, 512);
    EXPECT_EQ(longbench.score(trec, "\nCity\nState"), 1);
    EXPECT_EQ(longbench.score(trec, "City State"), 0.5);
    EXPECT_GT(longbench.score(qmsum, "c d."), 0.99);
}

TEST(LongBench, LimitsEverySet) {
    EXPECT_EQ(LongBench({.sets = {"trec", "qmsum"}, .limit = 1}, small_data()).samples().size(), 2u);
}

TEST(LongBench, OtherDataIsAnotherEvaluation) {
    LongBenchData changed = small_data();
    changed.files["qmsum"].content += "\n";
    const LongBenchParams params{.sets = {"trec"}};
    EXPECT_NE(LongBench(params, small_data()).settings(), LongBench(params, changed).settings());
    EXPECT_EQ(LongBench(params, small_data()).settings(), LongBench({.sets = {"qmsum"}}, small_data()).settings());
}

TEST(LongBench, MalformedDataIsNamed) {
    LongBenchData data = small_data();
    data.files["trec"].content += "\n{\"input\": ";
    EXPECT_STREQ(error_of(data).what(), "trec.jsonl: line 4 is not a JSON object");
    data = small_data();
    data.files["qmsum"].content = R"({"input": "?", "answers": ["a"], "length": 3})";
    EXPECT_STREQ(error_of(data).what(), "qmsum.jsonl: line 1 has no \"context\", which the prompt wants");
    data.files["qmsum"].content = R"({"input": "?", "context": "", "length": 3})";
    EXPECT_STREQ(error_of(data).what(), "qmsum.jsonl: line 1 has no \"answers\"");
    data.files["qmsum"].content = R"({"input": "?", "context": "", "answers": ["a"]})";
    EXPECT_STREQ(error_of(data).what(), "qmsum.jsonl: line 1 has no number \"length\"");
    data.files["qmsum"].content = "\n";
    EXPECT_STREQ(error_of(data).what(), "qmsum.jsonl has no rows");
    data = small_data();
    data.prompts.content = "[]";
    EXPECT_STREQ(error_of(data).what(), "dataset2prompt.json is not a JSON object");
    data = small_data();
    data.lengths.content = R"({"trec": 64})";
    EXPECT_STREQ(error_of(data).what(), "dataset2maxlen.json has no \"qmsum\"");
    data.lengths.content = R"({"trec": 64, "qmsum": 0})";
    EXPECT_STREQ(error_of(data).what(), "dataset2maxlen.json: \"qmsum\" is not a number of tokens");
    EXPECT_EQ(error_of(small_data(), {.sets = {"dureader"}}).kind(), ErrorKind::usage);
}

TEST(LongBench, PromptsAreFilledInAsPythonDoes) {
    const Json row = {{"context", "a {input} b"}, {"input", "c"}, {"length", 7}};
    EXPECT_EQ(fill_in("{context}|{input}|{length}|{{}}", row, "line 1"), "a {input} b|c|7|{}");
    EXPECT_THROW(fill_in("{other}", row, "line 1"), Error);
    EXPECT_THROW(fill_in("{context", row, "line 1"), Error);
    EXPECT_THROW(fill_in("a}", row, "line 1"), Error);
}

Row scored(const std::string& set, double score, int n_words = 100) {
    Row row{.id = set,
            .method = "fullkv",
            .setting = "fullkv",
            .task = set,
            .prediction = {},
            .references = {},
            .error = {}};
    row.score = score;
    row.more["n_words"] = n_words;
    return row;
}

double percent(const Cell& cell) { return 100 * cell.score.mean; }

// Llama-3.1-8B-Instruct's full-context row of FastKV's paper, whose average is the mean of six means.
TEST(LongBench, TheAverageIsThePapers) {
    const double means[] = {30.21, 45.53, 55.01, 56.01, 46.65, 31.28, 35.13, 25.28,
                            27.25, 73.00, 91.64, 43.80, 8.91,  99.50, 63.38, 56.64};
    std::vector<Row> rows;
    for (size_t i = 16; i-- > 0;) rows.push_back(scored(longbench_sets()[i].name, means[i] / 100));
    rows.push_back(scored("lcc", 63.38 / 100));  // sets of other sizes weigh the same
    const auto tables = LongBench({}, small_data()).tables(rows);
    ASSERT_EQ(tables.size(), 2u);
    EXPECT_EQ(tables[0].columns.front(), "narrativeqa");
    EXPECT_EQ(tables[0].columns.back(), "mean");
    EXPECT_NEAR(percent(tables[0].lines[0].cells.back()), 49.33, 0.005);
    ASSERT_EQ(tables[1].columns.size(), 7u);
    EXPECT_EQ(tables[1].columns[0], "single-document QA");
    EXPECT_NEAR(percent(tables[1].lines[0].cells[0]), 43.58, 0.005);
    EXPECT_NEAR(percent(tables[1].lines[0].cells[5]), 60.01, 0.005);
    EXPECT_NEAR(percent(tables[1].lines[0].cells[6]), 50.19, 0.005);
}

TEST(LongBench, AveragesOfSomeSetsSaySo) {
    const auto tables =
        LongBench({}, small_data()).tables({scored("lcc", .4), scored("repobench-p", .6), scored("trec", .2)});
    EXPECT_NEAR(percent(tables[0].lines[0].cells.back()), 40, 1e-9);
    EXPECT_NEAR(percent(tables[1].lines[0].cells.back()), 35, 1e-9);
    EXPECT_NE(tables[1].title.find("13 sets are not among them"), std::string::npos) << tables[1].title;
    EXPECT_EQ(LongBench({}, small_data()).tables({scored("lcc", .4)}).size(), 1u);
}

// Summaries' scores lie close together: Wilson's interval, made for right and wrong, would hide all differences.
TEST(LongBench, IntervalsFollowTheScores) {
    std::vector<Row> rows;
    for (int i = 0; i < 100; ++i) {
        rows.push_back(scored("multi_news", i % 2 == 0 ? 0.2 : 0.3));
        rows.push_back(scored("trec", i % 4 == 0 ? 1 : 0));
    }
    const auto cells = LongBench({}, small_data()).tables(rows).at(0).lines.at(0).cells;
    const double half = 1.96 * 0.05 * std::sqrt(100.0 / 99) / 10;
    EXPECT_NEAR(cells[0].score.interval.low, 0.25 - half, 1e-4);
    EXPECT_NEAR(cells[0].score.interval.high, 0.25 + half, 1e-4);
    EXPECT_NEAR(cells[1].score.interval.low, 0.1755, 1e-3);  // Wilson's of 25 in 100
    EXPECT_NEAR(cells[2].score.mean, 0.25, 1e-9);
    EXPECT_NEAR(cells[2].score.interval.low, 0.25 - std::hypot(half, 0.25 - 0.1755) / 2, 1e-3);
}

// Means of sets as LongBench's script rounds them, all rows together and by length, against vectors made in Python.
TEST(LongBench, DividesByLength) {
    std::ifstream file(FASTKV_TEST_DATA "/longbench_scores.json");
    const auto vectors = nlohmann::json::parse(file);
    const auto expect_near = [](const nlohmann::json& wanted, const Table& table) {
        EXPECT_NEAR(percent(table.lines[0].cells[0]), wanted.get<double>(), 0.005 + 1e-9) << table.title;
    };
    for (const auto& set : vectors.at("sets")) {
        std::vector<Row> rows;
        for (size_t i = 0; i < set["rows"].size(); ++i) {
            rows.push_back(scored(set["dataset"], set["scores"][i], set["rows"][i]["length"]));
        }
        const auto tables = LongBench({.sets = {}, .by_length = true}, small_data()).tables(rows);
        expect_near(set["score"], tables[0]);
        const std::pair<const char*, const char*> parts[] = {
            {"0-4k", "Under 4,000 words"}, {"4-8k", "4,000 to 7,999 words"}, {"8k+", "8,000 words and more"}};
        size_t next = 1;
        for (const auto& [key, title] : parts) {
            if (set["longbench_e"][key].is_null()) continue;
            ASSERT_LT(next, tables.size());
            EXPECT_EQ(tables[next].title, title);
            expect_near(set["longbench_e"][key], tables[next++]);
        }
        EXPECT_EQ(next, tables.size());
    }
}

// ---- the command ---------------------------------------------------------------------------------------------------

test::ProcessResult fastkv_eval(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {FASTKV_COMMAND, "eval"});
    return test::run_process(arguments);
}

TEST(LongBenchCommand, ReadsTheOfficialLayout) {
    const std::string model = test::write_tiny_model({}), root = test::temporary_path(""), out = root + "-results";
    fs::create_directories(root + "/data");
    fs::create_directories(root + "/config");
    test::write_file(root + "/config/dataset2prompt.json", R"({"trec": "{context}\n{input}", "lcc": "{context}"})");
    test::write_file(root + "/config/dataset2maxlen.json", R"({"trec": 4, "lcc": 3})");
    test::write_file(root + "/data/trec.jsonl",
                     R"({"input": "Type:", "context": "a b c", "answers": ["x"], "length": 3, "all_classes": ["x"]})"
                     "\n");
    test::write_file(root + "/data/lcc_e.jsonl",
                     R"({"input": "", "context": "int i", "answers": ["= 0;"], "length": 2, "all_classes": null})");
    std::vector<std::string> arguments = {"longbench", "-m", model, "-t", "2", "--data", root, "-o", out};
    EXPECT_EQ(fastkv_eval(arguments).code, 0);
    EXPECT_EQ(Json::parse(test::read_file(out + "/summary.json"))["n_samples"], 2);  // trec, two methods
    const Json row = Json::parse(
        test::read_file(out + "/samples.jsonl").substr(0, test::read_file(out + "/samples.jsonl").find('\n')));
    EXPECT_EQ(row["id"], "trec/0");
    EXPECT_EQ(row["n_words"], 3);

    arguments.insert(arguments.end(), {"--tasks", "lcc"});
    const auto missing = fastkv_eval(arguments);
    EXPECT_EQ(missing.code, 1);
    EXPECT_THAT(missing.err, HasSubstr("lcc.jsonl does not exist"));
    arguments.push_back("--longbench-e");  // has a file of its own, which the folder of results does not know
    const auto other = fastkv_eval(arguments);
    EXPECT_EQ(other.code, 2);
    EXPECT_THAT(other.err, HasSubstr("data_hash"));
    EXPECT_THAT(fastkv_eval({"longbench", "-m", model, "--data", root, "--tasks", "lcc,vcsum"}).err,
                HasSubstr("\"vcsum\" is none of LongBench's English and code sets"));
    EXPECT_THAT(fastkv_eval({"longbench", "-m", model}).err, HasSubstr("--data DIR is missing"));
    EXPECT_THAT(fastkv_eval({"longbench", "-m", model, "--data", root + "/data/none"}).err, HasSubstr("not a folder"));
}

}  // namespace
}  // namespace fastkv::eval
