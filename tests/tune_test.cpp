// fastkv tune in its parts, and as a command: what it asks, how it chooses, what it stores, who uses that.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "fastkv/error.h"
#include "support/message.h"
#include "support/process.h"
#include "support/tiny_model.h"
#include "tune/asker.h"
#include "tune/layer_distance.h"
#include "tune/plot.h"
#include "tune/prompts.h"
#include "tune/search.h"
#include "tune/settings.h"
#include "tune/tuned.h"

namespace fastkv::tune {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

using test::message_of;

// ---- prompts -------------------------------------------------------------------------------------------------------

// A tokenizer of four bytes to a token.
int count_bytes(std::string_view text) { return int(text.size() + 3) / 4; }

PromptMaker maker(uint64_t seed) {
    return {eval::SourceText(eval::filler_text(7, 500), count_bytes), count_bytes, count_bytes, seed};
}

TEST(TunePrompts, AreTheSameForTheSameSeed) {
    for (const auto& [name, task] : task_names()) {
        const RetrievalPrompt one = maker(3).make(task, 800, 5);
        const RetrievalPrompt again = maker(3).make(task, 800, 5);
        EXPECT_EQ(one.message, again.message) << name;
        EXPECT_EQ(one.answers, again.answers) << name;
        EXPECT_EQ(one.hash(), again.hash()) << name;
        EXPECT_NE(one.hash(), maker(4).make(task, 800, 5).hash()) << name;
        EXPECT_NE(one.hash(), maker(3).make(task, 800, 6).hash()) << name;
        EXPECT_NE(one.hash(), maker(3).make(task, 900, 5).hash()) << name;
    }
}

TEST(TunePrompts, HaveTheLengthThatWasAskedFor) {
    for (const auto& [name, task] : task_names()) {
        for (const int length : {300, 1000, 5000}) {
            const int n = count_bytes(maker(1).make(task, length, 0).message);
            EXPECT_NEAR(n, length, 40) << name;
        }
    }
}

TEST(TunePrompts, HideTheAnswerWhereTheySay) {
    const PromptMaker prompts = maker(1);
    for (int index = 0; index < 8; ++index) {
        const RetrievalPrompt prompt = prompts.make(Task::number, 4000, index);
        ASSERT_EQ(prompt.answers.size(), 1u);
        const size_t at = prompt.message.find(prompt.answers[0]);
        ASSERT_NE(at, std::string::npos);
        EXPECT_EQ(prompt.message.find(prompt.answers[0], at + 1), std::string::npos);
        EXPECT_NEAR(double(at) / double(prompt.message.size()), prompt.depth, 0.03);
    }
}

TEST(TunePrompts, SpreadDepthsOverTheText) {
    const PromptMaker prompts = maker(2);
    std::set<int> fifths;
    for (int index = 0; index < 8; ++index) fifths.insert(int(5 * prompts.make(Task::number, 500, index).depth));
    EXPECT_EQ(fifths.size(), 5u);
}

TEST(TunePrompts, TasksHideWhatTheyPromise) {
    const auto facts = [](const RetrievalPrompt& prompt) {
        std::set<std::string> names;
        int n = 0;
        const std::string mark = "The secret ";
        for (size_t at = prompt.message.find(mark); at != std::string::npos; at = prompt.message.find(mark, at + 1)) {
            std::istringstream words(prompt.message.substr(at));
            std::string word;
            for (int i = 0; i < 5; ++i) words >> word;
            names.insert(word);
            ++n;
        }
        return std::pair{n - 1, int(names.size())};  // the question repeats one
    };
    EXPECT_EQ(facts(maker(1).make(Task::number, 1000, 0)), (std::pair{1, 1}));
    EXPECT_EQ(facts(maker(1).make(Task::keys, 1000, 0)), (std::pair{4, 4}));
    EXPECT_EQ(maker(1).make(Task::keys, 1000, 0).answers.size(), 1u);
    EXPECT_EQ(maker(1).make(Task::values, 1000, 0).answers.size(), 4u);
    const auto [n_lines, n_names] = facts(maker(1).make(Task::lines, 16000, 0));
    EXPECT_GT(n_lines, 600);
    EXPECT_EQ(n_lines, n_names) << "a name was given twice";
    const RetrievalPrompt codes = maker(1).make(Task::uuids, 1000, 0);
    EXPECT_EQ(codes.answers[0].size(), 36u);
    EXPECT_EQ(codes.answers[0][14], '4');
}

TEST(TunePrompts, RefuseALengthBelowTheQuestion) {
    EXPECT_THAT(message_of([] { maker(1).make(Task::number, 20, 0); }), HasSubstr("-p 20 is too short"));
}

TEST(TuneRows, OfEveryFormatAreRead) {
    const auto rows = read_rows(
        "{\"index\": 0, \"input\": \"Text and question\", \"outputs\": [\"a\", \"b\"], \"length\": 3}\n\n"
        "{\"context\": \"Text\", \"question\": \"Who?\", \"answers\": \"c\"}\r\n",
        "rows.jsonl");
    ASSERT_EQ(rows.size(), 2u);
    EXPECT_EQ(rows[0].message, "Text and question");
    EXPECT_THAT(rows[0].answers, ElementsAre("a", "b"));
    EXPECT_EQ(rows[1].message, "Text\n\nWho?");
    EXPECT_THAT(rows[1].answers, ElementsAre("c"));
    EXPECT_EQ(rows[1].index, 1);
    EXPECT_THAT(message_of([] { read_rows("{\"input\": \"x\", \"outputs\": [\"a\"]}\nnot JSON", "r"); }),
                HasSubstr("r: line 2 is not"));
    EXPECT_THAT(message_of([] { read_rows("{\"outputs\": [\"a\"]}", "r"); }), HasSubstr("line 1 has no text"));
    EXPECT_THAT(message_of([] { read_rows("{\"input\": \"x\", \"outputs\": [3]}", "r"); }), HasSubstr("\"outputs\""));
    EXPECT_THAT(message_of([] { read_rows("\n", "r"); }), HasSubstr("r has no rows"));
}

// ---- search --------------------------------------------------------------------------------------------------------

// Answers by rule, and counts the questions.
struct FakeEvaluator {
    std::function<bool(int setting, int prompt)> rule;
    std::map<std::pair<int, int>, int> asked = {};

    bool operator()(int setting, int prompt) {
        ++asked[{setting, prompt}];
        return setting == full_kv || rule(setting, prompt);
    }
    int most_often() const {
        int most = 0;
        for (const auto& [question, n] : asked) most = std::max(most, n);
        return most;
    }
};

SearchResult search_with(FakeEvaluator& evaluator, int n_settings, const SearchPlan& plan = {}) {
    return search(n_settings, plan, [&](int setting, int prompt) { return evaluator(setting, prompt); });
}

TEST(TuneSearch, FindsTheCheapestThatAnswersAsFullKv) {
    FakeEvaluator evaluator{[](int setting, int) { return setting >= 11; }};
    const SearchResult result = search_with(evaluator, 40);
    EXPECT_EQ(result.winner, 11);
    EXPECT_EQ(result.confirmed[11].asked, 32);
    EXPECT_EQ(result.tallies[11].asked, 32);
    EXPECT_EQ(result.tallies[0].asked, 4) << "a setting that fails is not asked on";
}

TEST(TuneSearch, AsksEachQuestionOnceAndAsManyAsPlanned) {
    FakeEvaluator evaluator{[](int setting, int prompt) { return (setting * 7 + prompt * 3) % 11 > 1; }};
    const SearchPlan plan{.first_round = 4, .n_prompts = 20, .n_finalists = 3, .n_confirm = 10};
    search_with(evaluator, 25, plan);
    EXPECT_EQ(evaluator.most_often(), 1);
    int rounds = 0;
    for (const auto& [question, n] : evaluator.asked) {
        rounds += question.first != full_kv && question.second < 20 ? 1 : 0;
    }
    EXPECT_EQ(rounds, planned_questions(25, plan) - plan.n_confirm);
}

TEST(TuneSearch, DoesNotTrustThePromptsThatItChoseBy) {
    // Setting 2 is right on all prompts of the rounds, and on few others.
    FakeEvaluator evaluator{[](int setting, int prompt) { return setting >= 6 || (setting == 2 && prompt < 32); }};
    const SearchResult result = search_with(evaluator, 16);
    EXPECT_EQ(result.winner, 6);
    EXPECT_EQ(result.confirmed[2].asked, 8) << "a clear failure ends early";
}

TEST(TuneSearch, ToleratesNoMoreThanItIsTold) {
    // Two of 32 fresh prompts: noise, but six of 100.
    FakeEvaluator evaluator{[](int setting, int prompt) { return setting == 1 || prompt % 16 != 15; }};
    EXPECT_EQ(search_with(evaluator, 2).winner, 1);
    EXPECT_EQ(search_with(evaluator, 2, {.tolerance = 0.07}).winner, 0);
}

TEST(TuneSearch, HasNoWinnerWhereNothingHolds) {
    FakeEvaluator evaluator{[](int, int prompt) { return prompt % 2 == 0; }};
    EXPECT_EQ(search_with(evaluator, 12).winner, std::nullopt);
}

TEST(TuneSearch, OneSettingIsASearchToo) {
    FakeEvaluator evaluator{[](int, int) { return true; }};
    EXPECT_EQ(search_with(evaluator, 1, {.first_round = 1, .n_prompts = 1, .n_finalists = 4, .n_confirm = 1}).winner,
              0);
}

// ---- settings ------------------------------------------------------------------------------------------------------

Cost fake_cost(const MethodParams& method) {
    if (*method.retain_rate > *method.tsp_rate) refuse("does not go together");
    return {*method.tsp_layer / 10.0 + *method.tsp_rate / 100, *method.retain_rate};
}

TEST(TuneSettings, AreWithinTheLimitsAndTheCheapestFirst) {
    MethodParams base;
    base.window = 16;
    const std::vector<Dimension> dimensions = {parse_dimension("tsp_layer=7,2,4"), parse_dimension("tsp-rate=0.1,0.2"),
                                               parse_dimension("retain_rate=0.2,0.1,0.05")};
    const auto settings = list_settings(base, dimensions, {.max_work = 0.5, .max_cache = 0.1}, fake_cost);
    ASSERT_EQ(settings.size(), 8u);  // 2 layers, 2 rates, 2 caches
    EXPECT_EQ(method_text(settings[0].method), "fastkv --retain-rate 0.05 --tsp-rate 0.1 --tsp-layer 2 --window 16");
    EXPECT_EQ(method_text(settings[7].method), "fastkv --retain-rate 0.1 --tsp-rate 0.2 --tsp-layer 4 --window 16");
    EXPECT_EQ(list_settings(base, dimensions, {}, fake_cost).size(), 15u);  // r = .2 does not go with rho = .1
    base.tsp_layer = 2;
    base.tsp_rate = 0.01;
    EXPECT_THAT(message_of([&] { list_settings(base, {dimensions[2]}, {}, fake_cost); }),
                HasSubstr("does not go together"));
}

TEST(TuneSettings, AreDrawnAtRandomAndTheSameAgain) {
    std::vector<Setting> all;
    for (int i = 0; i < 100; ++i) all.push_back({{}, {i / 100.0, 0}});
    const auto some = sample_settings(all, 10, 5), again = sample_settings(all, 10, 5);
    ASSERT_EQ(some.size(), 10u);
    for (size_t i = 0; i < some.size(); ++i) EXPECT_EQ(some[i].cost.work, again[i].cost.work);
    EXPECT_TRUE(std::is_sorted(some.begin(), some.end(), [](auto& a, auto& b) { return a.cost.work < b.cost.work; }));
    EXPECT_EQ(sample_settings(all, 200, 5).size(), 100u);
}

TEST(TuneSettings, TheUntunedOneIsAddedOnceInItsPlace) {
    const HyperParams hparams = Model::load(test::tiny_model_path()).hparams();
    MethodParams dearer, untuned = resolve({}, hparams);
    dearer.kernel = 21;
    std::vector<Setting> settings = {{dearer, {0.9, 0.1}}};
    add_setting(settings, {untuned, {0.5, 0.1}}, hparams);
    add_setting(settings, {untuned, {0.5, 0.1}}, hparams);
    ASSERT_EQ(settings.size(), 2u);
    EXPECT_EQ(method_text(settings[0].method), method_text(untuned));
    EXPECT_EQ(settings[1].method.kernel, 21);
    std::vector<Setting> partial = {{{}, {0.5, 0.1}}};  // the same, with its defaults not filled in
    add_setting(partial, {untuned, {0.5, 0.1}}, hparams);
    EXPECT_EQ(partial.size(), 1u);
}

TEST(TuneSettings, RefuseWhatIsNoParameter) {
    EXPECT_THAT(message_of([] { parse_dimension("kernels=7"); }), HasSubstr("kernels"));
    EXPECT_THAT(message_of([] { parse_dimension("kernel=seven"); }), HasSubstr("--kernel seven"));
    EXPECT_THAT(message_of([] { parse_dimension("kernel"); }), HasSubstr("lists no values"));
}

// ---- eq. 3 ---------------------------------------------------------------------------------------------------------

TEST(TuneLayerDistance, IsTheMeanSquaredDistanceFromFullKv) {
    // FullKV's row is (3, 4); TSP at layer l moves it by 2 - l, and by one more with prompt 1.
    const auto hidden = [](int prompt, const MethodParams& method) {
        if (method.method == "fullkv") return std::vector<float>{3, 4};
        return std::vector<float>{float(3 + 2 - *method.tsp_layer + prompt), 4};
    };
    const auto distances = layer_distances({0, 1, 2}, 2, {}, hidden);
    ASSERT_EQ(distances.size(), 3u);
    EXPECT_DOUBLE_EQ(distances[0].squared, (4 + 9) / 2.0);
    EXPECT_DOUBLE_EQ(distances[1].squared, (1 + 4) / 2.0);
    EXPECT_DOUBLE_EQ(distances[2].squared, (0 + 1) / 2.0);
    EXPECT_DOUBLE_EQ(distances[2].relative, 0.5 / 25);
    EXPECT_THAT(nearest_layers(distances), ElementsAre(2, 1, 0));
}

TEST(TunePlot, ShowsEveryPointAndTheChoice) {
    Curves curves{.title = "A & B", .n_layer = 4, .chosen = 1};
    curves.distances = {{0, 4, 0.4}, {1, 1, 0.1}, {2, 0, 0}};
    curves.answers = {{0, {10, 1, 9, 0}}, {1, {10, 10, 0, 0}}};
    curves.full = {10, 10, 0, 0};
    const std::string svg = plot_svg(curves);
    const auto count = [&](const std::string& part) {
        int n = 0;
        for (size_t at = svg.find(part); at != std::string::npos; at = svg.find(part, at + 1)) ++n;
        return n;
    };
    EXPECT_EQ(count("<circle"), 4);                // a distance of 0 has no logarithm
    EXPECT_EQ(count("class='accent'"), 2);         // the choice, in both panels
    EXPECT_EQ(count("stroke-opacity='0.45'"), 2);  // intervals
    EXPECT_THAT(svg, HasSubstr("A &amp; B"));
    EXPECT_THAT(svg, HasSubstr("FullKV 10 of 10"));
    EXPECT_THAT(svg, Not(HasSubstr("nan")));
    EXPECT_THAT(plot_svg({.title = "nothing", .n_layer = 1}), Not(HasSubstr("nan")));
}

// ---- what is stored ------------------------------------------------------------------------------------------------

TEST(Tuned, ComesBackAsItWasStored) {
    Tuned tuned;
    tuned.method.tsp_layer = 9;
    tuned.method.tsp_rate = 0.1;
    tuned.method.retain_rate = 0.05;
    tuned.method.kernel = MethodParams::kernel_auto;
    tuned.found = {{"text", "a book"}};
    const Tuned back = tuned_of(tuned_json(tuned, "a model"), "x.json");
    EXPECT_EQ(method_text(back.method), method_text(tuned.method));
    EXPECT_EQ(back.found, tuned.found);
}

TEST(Tuned, BrokenFilesAreNamed) {
    const std::string good = tuned_json({}, "m");
    for (const std::string& text : {std::string(), std::string("{"), std::string("[]"), good.substr(0, good.size() / 2),
                                    std::string(R"({"version": 2, "method": "fastkv", "params": {}})"),
                                    std::string(R"({"version": 1, "method": "fastkv", "params": {"kernels": "7"}})"),
                                    std::string(R"({"version": 1, "method": "fastkv", "params": {"kernel": "x"}})"),
                                    std::string(R"({"version": 1, "method": "fastkv", "params": {"kernel": 7}})")}) {
        EXPECT_THAT(message_of([&] { tuned_of(text, "x.json"); }), HasSubstr("x.json")) << text;
    }
}

TEST(Tuned, HashChangesWithTheContentOnly) {
    const std::string path = test::temporary_path(".bin"), copy = test::temporary_path(".bin");
    std::string content(5 << 20, 'a');
    test::write_file(path, content);
    test::write_file(copy, content);
    const std::string hash = model_hash(path);
    EXPECT_EQ(hash.size(), 16u);
    EXPECT_EQ(model_hash(copy), hash);
    for (const size_t at : {size_t{0}, content.size() / 2, content.size() - 1}) {
        std::string changed = content;
        changed[at] = 'b';
        test::write_file(copy, changed);
        EXPECT_NE(model_hash(copy), hash) << at;
    }
    test::write_file(copy, content + "a");
    EXPECT_NE(model_hash(copy), hash);
    EXPECT_THAT(message_of([&] { model_hash(path + ".none"); }), HasSubstr(path + ".none"));
}

TEST(TuneAnswers, AreKeptAndNotAskedAgain) {
    const std::string path = test::temporary_path(".jsonl");
    const RetrievalPrompt prompt = maker(1).make(Task::number, 500, 0);
    const RetrievalPrompt other = maker(1).make(Task::number, 500, 1);
    AnswerFile(path, "engine").add(prompt, "fastkv", {.score = 1, .right = true, .text = "42", .n_prompt = 500});
    // A run that was cut off in the middle of a line.
    test::write_file(path, test::read_file(path) + "{\"kind\": \"number\", \"sco");
    AnswerFile again(path, "engine");
    ASSERT_NE(again.find(prompt, "fastkv"), nullptr);
    EXPECT_TRUE(again.find(prompt, "fastkv")->right);
    EXPECT_TRUE(again.find(prompt, "fastkv")->reused);
    EXPECT_EQ(again.find(prompt, "fullkv"), nullptr);
    EXPECT_EQ(again.find(other, "fastkv"), nullptr);
    again.add(other, "fastkv", {.text = "7"});
    EXPECT_NE(AnswerFile(path, "engine").find(other, "fastkv"), nullptr);
    EXPECT_EQ(AnswerFile(path, "another").find(prompt, "fastkv"), nullptr);
}

// ---- the command ---------------------------------------------------------------------------------------------------

class TuneCommand : public ::testing::Test {
  protected:
    void SetUp() override {
        config_ = test::temporary_path(".config");
        setenv("XDG_CONFIG_HOME", config_.c_str(), 1);
        stored_ = tuned_path(model_hash(model()));
        std::filesystem::create_directories(std::filesystem::path(stored_).parent_path());
    }
    void TearDown() override { unsetenv("XDG_CONFIG_HOME"); }

    static const std::string& model() {
        static const std::string path = test::write_tiny_model({});
        return path;
    }

    test::ProcessResult fastkv(const std::string& command, std::vector<std::string> arguments) {
        const std::vector<std::string> front = {FASTKV_COMMAND, command, "-m", model(), "-t", "1"};
        arguments.insert(arguments.begin(), front.begin(), front.end());
        return test::run_process(arguments);
    }

    void store(const std::string& layer) {
        Tuned tuned;
        set_param(tuned.method, "tsp_layer", layer);
        set_param(tuned.method, "kernel", "21");
        test::write_file(stored_, tuned_json(tuned, "tiny"));
    }

    std::string config_, stored_;
};

TEST_F(TuneCommand, LaterRunsUseWhatIsStoredAndSaySo) {
    store("1");
    const std::string trace = test::temporary_path(".json");
    const auto run = [&](std::vector<std::string> more) {
        more.insert(more.end(), {"-p", std::string(400, 'x'), "-n", "1", "--trace", trace});
        const auto result = fastkv("run", more);
        EXPECT_EQ(result.code, 0) << result.err;
        return std::pair{result.err, int(Json::parse(test::read_file(trace))["params"].value("kernel", 0))};
    };
    const auto [note, kernel] = run({});
    EXPECT_THAT(note, HasSubstr("tuned for this model: fastkv --tsp-layer 1 --kernel 21"));
    EXPECT_EQ(kernel, 21);
    for (const std::vector<std::string>& flags : {std::vector<std::string>{"--no-tuned"}, {"--retain-rate", "0.1"}}) {
        const auto [silence, own] = run(flags);
        EXPECT_THAT(silence, Not(HasSubstr("tuned for")));
        EXPECT_EQ(own, 7);
    }
    EXPECT_THAT(run({"--method", "snapkv"}).first, Not(HasSubstr("tuned for")));
    EXPECT_THAT(fastkv("inspect", {"-p", "500"}).out, HasSubstr("--kernel 21"));
}

TEST_F(TuneCommand, BrokenChoicesAreNamedAndIgnored) {
    const auto warning = [&] {
        const auto result = fastkv("run", {"-p", "some words", "-n", "1"});
        EXPECT_EQ(result.code, 0) << result.err;
        return result.err;
    };
    test::write_file(stored_, "{");
    EXPECT_THAT(warning(), HasSubstr("warning: " + stored_));
    store("99");  // the model has three layers
    EXPECT_THAT(warning(), HasSubstr("warning: " + stored_ + ": --tsp-layer 99"));
}

TEST_F(TuneCommand, CheckPrintsEveryAnswerAndSums) {
    const std::string answers = test::temporary_path(".jsonl");
    const std::vector<std::string> check = {"--check",  "-p", "500,600",   "--prompts", "2",  "--task", "keys",
                                            "--kernel", "9",  "--answers", answers,     "-n", "3"};
    const auto result = fastkv("tune", check);
    ASSERT_EQ(result.code, 0) << result.err;
    std::istringstream lines(result.out);
    int n_answers = 0;
    std::vector<Json> sums;
    for (std::string line; std::getline(lines, line);) {
        const Json json = Json::parse(line);
        if (json.contains("summary")) {
            sums.push_back(json);
        } else {
            EXPECT_EQ(json["kind"], "keys");
            EXPECT_EQ(json["right"], false) << "random weights";
            ++n_answers;
        }
    }
    EXPECT_EQ(n_answers, 8);  // two prompts of two lengths, FullKV and FastKV
    ASSERT_EQ(sums.size(), 3u);
    EXPECT_EQ(sums[0]["summary"], "keys 500");
    EXPECT_EQ(sums[2]["summary"], "all");
    EXPECT_EQ(sums[2]["asked"], 4);
    EXPECT_NEAR(sums[2]["cache"].get<double>(), 0.1, 0.01);
    EXPECT_THAT(result.err, HasSubstr("| keys 600 | 0 of 2"));
    const std::string kept = test::read_file(answers);
    EXPECT_EQ(fastkv("tune", check).code, 0);
    EXPECT_EQ(test::read_file(answers), kept) << "asked again";
}

TEST_F(TuneCommand, AnswersRowsOfAFile) {
    const std::string rows = test::temporary_path(".jsonl");
    test::write_file(rows,
                     "{\"input\": \"What?\", \"outputs\": [\"x\"]}\n{\"input\": \"Who?\", \"outputs\": [\"y\"]}\n");
    const auto result = fastkv("tune", {"--check", "--rows", rows, "--method", "fullkv", "-n", "2", "-o", "md"});
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_THAT(result.out, HasSubstr("of 2"));
    EXPECT_EQ(fastkv("tune", {"--check", "--rows", rows + "x"}).code, 1);
}

TEST_F(TuneCommand, DoesNotChooseForAModelThatCannotAnswer) {
    const auto result = fastkv("tune", {"-p", "300", "--prompts", "2", "--settings", "2", "--max-work", "1"});
    EXPECT_EQ(result.code, 1);
    EXPECT_THAT(result.err, HasSubstr("answers 0 of 2 prompts"));
    EXPECT_FALSE(std::filesystem::exists(stored_));
}

TEST_F(TuneCommand, RefusesWhatItWouldIgnore) {
    EXPECT_EQ(fastkv("tune", {"--check", "--max-work", "0.5"}).code, 2);
    EXPECT_EQ(fastkv("tune", {"--rows", "x"}).code, 2);
    EXPECT_EQ(fastkv("tune", {"--method", "snapkv"}).code, 2);
    EXPECT_EQ(fastkv("tune", {"--task", "needle"}).code, 2);
    const auto limits = fastkv("tune", {"--max-work", "0.01", "-p", "300", "--prompts", "1"});
    EXPECT_EQ(limits.code, 2);
    EXPECT_EQ(limits.err.rfind("fastkv: error: no setting keeps within --max-work 0.01", 0), 0u)
        << "nothing is measured before: " << limits.err;
    EXPECT_THAT(fastkv("tune", {"--try", "kernel=8", "-p", "300"}).err, HasSubstr("--kernel 8"));
}

}  // namespace
}  // namespace fastkv::tune
