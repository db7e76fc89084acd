// fastkv eval in its parts: texts, statistics, rows, tables, prompts and answers, the needle.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "eval/answer.h"
#include "eval/json_lines.h"
#include "eval/needle.h"
#include "eval/prompt.h"
#include "eval/row.h"
#include "eval/source_text.h"
#include "eval/statistics.h"
#include "eval/string_match.h"
#include "eval/summary.h"
#include "fastkv/fastkv.h"
#include "plot/heat_map.h"
#include "support/message.h"
#include "support/tiny_model.h"

namespace fastkv::eval {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

using test::message_of;

// A tokenizer of four bytes to a token.
int count_bytes(std::string_view text) { return int(text.size() + 3) / 4; }

// ---- texts ---------------------------------------------------------------------------------------------------------

TEST(EvalText, GoesOnFromItsBeginning) {
    const SourceText text("One two. Three four! Five?\n\nSix", count_bytes);
    ASSERT_EQ(text.size(), 4u);
    std::string passage;
    for (const Sentence& sentence : text.passage(3, 14)) passage += sentence.text;
    EXPECT_EQ(passage, "Six One two. Three four! Five?\n\nSix One two. ");
}

TEST(EvalText, CutsWhatHasNoSentencesBetweenCharacters) {
    std::string dots;
    for (int i = 0; i < 1000; ++i) dots += "\xC3\xA9";  // e with an accent
    const SourceText text(dots, count_bytes);
    EXPECT_GT(text.size(), 2u);
    std::string passage;
    for (const Sentence& sentence : text.passage(0, 600)) {
        EXPECT_EQ(sentence.text.front(), '\xC3');
        passage += sentence.text;
    }
    EXPECT_GT(passage.size(), 1000u);
}

TEST(EvalText, LosesWhatIsLeftOfACutCharacter) {
    EXPECT_EQ(whole_characters("abc"), "abc");
    EXPECT_EQ(whole_characters("\xA9"
                               "b\xC3\xA9"),
              "b\xC3\xA9");
    EXPECT_EQ(whole_characters("b\xC3"), "b");
    EXPECT_EQ(whole_characters("b\xE2\x82"), "b");
    EXPECT_EQ(whole_characters("b\xF0\x9F\x98\x80"), "b\xF0\x9F\x98\x80");
    EXPECT_EQ(whole_characters(""), "");
}

TEST(EvalLines, AreObjectsOrNamed) {
    const auto lines = json_lines("{\"a\": \"x\"}\n\n{\"a\": [\"y\", \"z\"]}\r\n", "f");
    ASSERT_EQ(lines.size(), 2u);
    EXPECT_EQ(lines[1].where, "f: line 3");
    EXPECT_EQ(text_at(lines[0], "a"), "x");
    EXPECT_THAT(texts_at(lines[1], "a"), ElementsAre("y", "z"));
    EXPECT_THAT(message_of([&] { text_at(lines[1], "a"); }), HasSubstr("f: line 3: \"a\" is not text"));
    EXPECT_THAT(message_of([&] { texts_at(lines[1], "b"); }), HasSubstr("f: line 3 has no \"b\""));
    EXPECT_THAT(message_of([] { json_lines("{}\n{\"a\": ", "f"); }), HasSubstr("f: line 2 is not a JSON object"));
    EXPECT_THAT(message_of([] { json_lines("[1]", "f"); }), HasSubstr("f: line 1 is not a JSON object"));
}

// ---- statistics ----------------------------------------------------------------------------------------------------

TEST(EvalStatistics, WilsonsInterval) {
    EXPECT_NEAR(wilson(8, 10).low, 0.4902, 1e-4);
    EXPECT_NEAR(wilson(8, 10).high, 0.9433, 1e-4);
    EXPECT_EQ(wilson(0, 10).low, 0);
    EXPECT_NEAR(wilson(0, 10).high, 0.2775, 1e-4);
    EXPECT_EQ(wilson(10, 10).high, 1);
    EXPECT_EQ(wilson(0, 0).high, 1);
}

Tally tally(int asked, int lost, int gained) { return {asked, asked - lost, lost, gained}; }

TEST(EvalStatistics, NoiseIsWhatChanceCouldDo) {
    EXPECT_TRUE(within_noise(tally(30, 0, 0)));
    EXPECT_TRUE(within_noise(tally(30, 2, 0)));
    EXPECT_FALSE(within_noise(tally(30, 3, 0)));
    EXPECT_TRUE(within_noise(tally(30, 5, 3)));
    EXPECT_TRUE(within_noise(tally(30, 0, 9)));
}

TEST(EvalStatistics, DifferencesOfPairsShrinkWithTheirNumber) {
    const Interval few = paired_difference(tally(20, 1, 1)), many = paired_difference(tally(2000, 100, 100));
    EXPECT_NEAR(few.low, -few.high, 1e-12);
    EXPECT_GT(few.high, many.high);
    EXPECT_LT(paired_difference(tally(200, 30, 2)).high, 0);
}

TEST(EvalStatistics, DifferencesOfScoresAreThoseOfPairs) {
    // 20 prompts, 4 lost, 1 gained.
    std::vector<double> differences(20, 0.0);
    std::fill_n(differences.begin(), 4, -1.0);
    differences[10] = 1;
    const Interval pairs = paired_difference(tally(20, 4, 1));
    const Mean mean = mean_difference({differences});
    EXPECT_NEAR(mean.mean, -0.15, 1e-12);
    EXPECT_NEAR(mean.interval.low, pairs.low, 1e-12);
    EXPECT_NEAR(mean.interval.high, pairs.high, 1e-12);
    // Halves scatter less; groups weigh alike.
    for (double& difference : differences) difference /= 2;
    EXPECT_LT(mean_difference({differences}).interval.high, mean.interval.high);
    EXPECT_NEAR(mean_difference({{1}, {0, 0, 0}, {}}).mean, 0.5, 1e-12);
    EXPECT_EQ(mean_difference({}).n, 0);
}

TEST(EvalStatistics, MeansOfMeansWeighTasksAlike) {
    const Mean many = mean_of(std::vector<double>(100, 1.0)), few = mean_of({0, 0, 0, 0});
    const Mean all = mean_of_means({many, few, Mean{}});
    EXPECT_EQ(all.n, 104);
    EXPECT_DOUBLE_EQ(all.mean, 0.5);
    // As sure as 2^2 / (1/100 + 1/4) = 15.4 samples.
    EXPECT_NEAR(all.interval.low, wilson(0.5 * 15.3846, 15.3846).low, 1e-4);
    // Tasks of equal size: the same as all samples together.
    const Mean half = mean_of({0, 1, 1, 0.5}), third = mean_of({0, 0.25, 0, 1});
    const Mean both = mean_of({0, 1, 1, 0.5, 0, 0.25, 0, 1});
    EXPECT_DOUBLE_EQ(mean_of_means({half, third}).mean, both.mean);
    EXPECT_DOUBLE_EQ(mean_of_means({half, third}).interval.high, both.interval.high);
}

// ---- rows and tables -----------------------------------------------------------------------------------------------

Row row(const std::string& setting, const std::string& task, int index, double score) {
    Row row;
    row.id = task + "/" + std::to_string(index);
    row.method = setting.substr(0, setting.find(' '));
    row.setting = setting;
    row.task = task;
    row.index = index;
    row.references = {"a"};
    row.score = score;
    return row;
}

Row failed(Row row) {
    row.error = "no room";
    return row;
}

TEST(EvalRows, AreReadAsTheyWereWritten) {
    Row one = row("fastkv --window 8", "vt", 3, 0.25);
    one.length = 4096;
    one.depth = 33;
    one.n_prompt = 4000;
    one.n_truncated = 5;
    one.prediction = "two\nlines and \xC3\xA9";
    one.n_predicted = 7;
    one.prefill_seconds = 1.5;
    one.decode_seconds = 0.25;
    one.kv_cache_bytes = 1234567890123;
    one.more["n_words"] = 17;
    const std::string line = row_json(one);
    EXPECT_EQ(line.find('\n'), std::string::npos);
    const Row back = rows_of(line, "f").at(0);
    EXPECT_EQ(row_json(back), line);
    EXPECT_EQ(back.key(), one.key());
    EXPECT_EQ(back.prediction, one.prediction);
    EXPECT_EQ(back.kv_cache_bytes, one.kv_cache_bytes);
    EXPECT_EQ(back.more["n_words"], 17);
}

TEST(EvalRows, ThatFailedHaveNoScore) {
    const std::string line = row_json(failed(row("fullkv", "vt", 0, 0)));
    EXPECT_THAT(line, HasSubstr("\"error\":\"no room\""));
    EXPECT_THAT(line, Not(HasSubstr("score")));
    EXPECT_TRUE(rows_of(line, "f").at(0).failed());
}

TEST(EvalRows, OfOtherProgramsAreNamed) {
    const std::string good = row_json(row("fullkv", "vt", 0, 1));
    EXPECT_THAT(message_of([&] { rows_of(good + "\n{\"id\": 3}\n", "f.jsonl"); }),
                HasSubstr("f.jsonl: line 2 is no result"));
}

TEST(EvalRows, HaveTextThatIsCutInACharacter) {
    Row one = row("fullkv", "vt", 0, 1);
    one.prediction = "x\xC3";
    EXPECT_EQ(rows_of(row_json(one), "f").at(0).prediction, "x\xEF\xBF\xBD");
}

TEST(EvalTables, CountFailuresApart) {
    const std::vector<Row> rows = {row("fullkv", "vt", 0, 1), row("fullkv", "vt", 1, 0), row("fullkv", "cwe", 0, 0.5),
                                   failed(row("fullkv", "cwe", 1, 0)), row("fastkv --window 8", "vt", 0, 1)};
    const Table table = table_of(rows, "t", [](const Row& of) { return of.task; }, {"cwe", "vt", "fwe"});
    EXPECT_THAT(table.columns, ElementsAre("cwe", "vt", "mean"));
    ASSERT_EQ(table.lines.size(), 2u);
    const auto& cells = table.lines[0].cells;
    EXPECT_DOUBLE_EQ(cells[0].score.mean, 0.5);
    EXPECT_EQ(cells[0].score.n, 1);
    EXPECT_EQ(cells[0].n_failed, 1);
    EXPECT_DOUBLE_EQ(cells[1].score.mean, 0.5);
    EXPECT_DOUBLE_EQ(cells[2].score.mean, 0.5);
    EXPECT_EQ(cells[2].n_failed, 1);
    EXPECT_EQ(table.lines[1].cells[0].score.n, 0);
    const std::string text = table_text(table);
    EXPECT_THAT(text, StartsWith("t\n\n| method "));
    EXPECT_THAT(text, HasSubstr("50.0 (5 to 95), 1 failed"));
    const Json json = table_json(table);
    EXPECT_EQ(json["settings"][0]["cells"][0]["n_failed"], 1);
    EXPECT_FALSE(json["settings"][1]["cells"][0].contains("score"));
}

TEST(EvalTables, NameSettingsByWhatSetsThemApart) {
    EXPECT_THAT(short_names({"fullkv", "fastkv --retain-rate 0.1 --window 8", "fastkv --retain-rate 0.2 --window 8",
                             "snapkv --retain-rate 0.1"}),
                ElementsAre("fullkv", "fastkv --retain-rate 0.1", "fastkv --retain-rate 0.2", "snapkv"));
}

TEST(EvalTables, OfManyColumnsAreTurned) {
    std::vector<Row> rows;
    for (int i = 0; i < 12; ++i) rows.push_back(row("fullkv", "task" + std::to_string(i), 0, 1));
    EXPECT_THAT(table_text(table_of(rows, "", [](const Row& of) { return of.task; })),
                HasSubstr("| task3   | 100.0 (21 to 100) |"));
}

TEST(EvalTables, JudgeAnswersByWhatTheyContain) {
    EXPECT_EQ(share_contained("The number is 1234567.", {"1234567"}), 1);
    EXPECT_EQ(share_contained("The number is 123456.", {"1234567"}), 0);
    EXPECT_EQ(share_contained("AB-cd and ef", {"ab-CD", "EF", "gh", "12"}), 0.5);
    EXPECT_EQ(share_contained("anything", {}), 0);
}

// ---- needle --------------------------------------------------------------------------------------------------------

TEST(EvalNeedle, DepthsAreThoseOfTheReference) {
    EXPECT_THAT(even_depths(10), ElementsAre(0, 11, 22, 33, 44, 56, 67, 78, 89, 100));
    EXPECT_THAT(even_depths(1), ElementsAre(0));
    EXPECT_THAT(even_depths(5), ElementsAre(0, 25, 50, 75, 100));
    EXPECT_THAT(even_depths(9), ElementsAre(0, 12, 25, 38, 50, 62, 75, 88, 100));  // 12.5 and 37.5: to the even one
}

// Token 0 is a full stop.
std::vector<Token> inserted(std::vector<Token> context, int budget, int depth) {
    return insert_needle(std::move(context), {-1, -2}, budget, depth, [](Token token) { return token == 0; });
}

TEST(EvalNeedle, StandsBehindTheLastFullStop) {
    const std::vector<Token> text = {1, 2, 0, 3, 4, 0, 5, 6, 7, 8};
    EXPECT_THAT(inserted(text, 100, 50), ElementsAre(1, 2, 0, -1, -2, 3, 4, 0, 5, 6, 7, 8));
    EXPECT_THAT(inserted(text, 100, 60), ElementsAre(1, 2, 0, 3, 4, 0, -1, -2, 5, 6, 7, 8));
    EXPECT_THAT(inserted(text, 100, 99), ElementsAre(1, 2, 0, 3, 4, 0, -1, -2, 5, 6, 7, 8));
    EXPECT_THAT(inserted(text, 100, 100), ElementsAre(1, 2, 0, 3, 4, 0, 5, 6, 7, 8, -1, -2));
    EXPECT_THAT(inserted(text, 100, 0), ElementsAre(-1, -2, 1, 2, 0, 3, 4, 0, 5, 6, 7, 8));
    EXPECT_THAT(inserted(text, 100, 20), ElementsAre(-1, -2, 1, 2, 0, 3, 4, 0, 5, 6, 7, 8)) << "none before";
}

TEST(EvalNeedle, HasRoomInTheBudget) {
    const std::vector<Token> text = {1, 2, 0, 3, 4, 0, 5, 6, 7, 8};
    EXPECT_THAT(inserted(text, 6, 100), ElementsAre(1, 2, 0, 3, -1, -2));
    EXPECT_THAT(inserted(text, 6, 80), ElementsAre(1, 2, 0, -1, -2, 3)) << "80 % of what is left";
    EXPECT_THAT(inserted(text, 12, 100), ElementsAre(1, 2, 0, 3, 4, 0, 5, 6, 7, 8, -1, -2));
}

TEST(EvalNeedle, IsJudgedByTheWordsOfTheExpectedAnswer) {
    const std::string expected = "eat a sandwich and sit in Dolores Park on a sunny day.";  // 11 words, "a" twice
    EXPECT_EQ(word_overlap("Eat a SANDWICH and sit in dolores park on a sunny day.", expected), 1);
    EXPECT_DOUBLE_EQ(word_overlap("eat a sandwich and sit in Dolores Park on a sunny day", expected), 10.0 / 11);
    EXPECT_DOUBLE_EQ(word_overlap("a a a walk in the park", expected), 3.0 / 11);
    EXPECT_EQ(word_overlap("", expected), 0);
}

const Model& model() {
    static const Model loaded = Model::load(test::write_tiny_model({}), {.n_threads = 1});
    return loaded;
}

TEST(EvalNeedle, PromptsHaveTheLengthThatWasAskedFor) {
    for (const auto protocol : {NeedleProtocol::chat, NeedleProtocol::reference, NeedleProtocol::reference_chat}) {
        const Needle needle(model(), {.protocol = protocol, .lengths = {1500, 2500}, .depths = {0, 50, 100}},
                            filler_text(1, 5));
        ASSERT_EQ(needle.samples().size(), 6u);
        for (size_t i = 0; i < 6; ++i) {
            const Sample sample = needle.make(i);
            const auto n = int(prompt_tokens(model(), sample.message, sample.chat).size());
            // The reference leaves 200 tokens for a frame that takes as many as the tokenizer makes of it.
            const int tolerance = protocol == NeedleProtocol::chat ? 3 : 120;
            EXPECT_NEAR(n, sample.length, tolerance) << sample.id;
            EXPECT_THAT(sample.message, HasSubstr(sample.references[0]));
            EXPECT_EQ(needle.score(sample, " " + sample.references[0]), 1);
            EXPECT_EQ(sample.ends_at_newline, protocol != NeedleProtocol::chat);
            EXPECT_EQ(needle.samples()[i].id, sample.id);
        }
    }
}

TEST(EvalNeedle, HidesTheSentenceWhereItSays) {
    const Needle needle(model(), {.lengths = {3000}, .depths = {0, 30, 60, 100}}, filler_text(1, 400));
    for (size_t i = 0; i < 4; ++i) {
        const Sample sample = needle.make(i);
        const double at = double(sample.message.find("eat a sandwich")) / double(sample.message.size());
        EXPECT_NEAR(at, sample.depth / 100, 0.12) << sample.depth;
    }
}

TEST(EvalNeedle, RefusesALengthBelowItsFrame) {
    EXPECT_THAT(message_of([] { Needle(model(), {.lengths = {100}, .depths = {0}}, "Text."); }),
                HasSubstr("a length of 100 has no room for the needle"));
}

// ---- heat map ------------------------------------------------------------------------------------------------------

TEST(EvalHeatMap, RunsFromRedOverYellowToGreen) {
    const plot::Color red = plot::score_color(0), yellow = plot::score_color(0.5), green = plot::score_color(1);
    EXPECT_GT(red.red, red.green + 0.4);
    EXPECT_GT(yellow.red + yellow.green, 1.5);
    EXPECT_LT(yellow.blue, 0.3);
    EXPECT_GT(green.green, green.red + 0.4);
}

plot::HeatMap heat_map() {
    return {"fastkv <1>: mean 0.500",
            std::string(150, 'x') + " --window 8",
            {1000, 2500},
            {0, 50, 100},
            {{0.0, 1.0}, {0.25, std::nullopt}, {0.5, 0.5}}};
}

TEST(EvalHeatMap, AsSvgHasEveryCell) {
    const std::string svg = draw_heat_map(heat_map(), plot::Target::svg);
    EXPECT_THAT(svg, StartsWith("<svg"));
    EXPECT_THAT(svg, HasSubstr("fastkv &lt;1&gt;: mean 0.500"));
    for (const char* word : {">1K<", ">2500<", ">50<", ">0.25<", ">1.00<", ">--window 8<", "–"}) {
        EXPECT_THAT(svg, HasSubstr(word));
    }
}

TEST(EvalHeatMap, AsPngIsAPicture) {
    if (!plot::can_draw_png()) GTEST_SKIP() << "built without cairo";
    const std::string png = draw_heat_map(heat_map(), plot::Target::png);
    EXPECT_THAT(png, StartsWith("\x89PNG\r\n"));
    EXPECT_GT(png.size(), 2000u);
}

// ---- prompts and answers -------------------------------------------------------------------------------------------

TEST(EvalPrompt, KeepsItsTemplateWhenItIsCut) {
    std::string message = "first";
    for (int i = 0; i < 300; ++i) message += " word" + std::to_string(i);
    message += " last";
    const auto whole = prompt_tokens(model(), message, true);
    const Prompt cut = cut_prompt(model(), message, true, 400, Truncation::message);
    EXPECT_LE(cut.tokens.size(), 400u);
    EXPECT_GT(cut.tokens.size(), 396u);
    EXPECT_EQ(cut.n_truncated, int(whole.size() - cut.tokens.size()));
    const std::string text = model().detokenize(cut.tokens, /*special=*/true);
    EXPECT_THAT(text, HasSubstr("user\n first word0"));
    EXPECT_THAT(text, HasSubstr("word299 last<|im_end|>"));
    EXPECT_THAT(text, Not(HasSubstr("word150")));
    EXPECT_EQ(cut_prompt(model(), message, true, int(whole.size()), Truncation::message).tokens, whole);
}

TEST(EvalPrompt, LosesItsTemplateTheReferencesWay) {
    const std::string message(2000, 'a');
    const Prompt cut = cut_prompt(model(), message, true, 400, Truncation::reference);
    EXPECT_NEAR(int(cut.tokens.size()), 400, 8);
    const std::string text = model().detokenize(cut.tokens, /*special=*/true);
    EXPECT_THAT(text, Not(HasSubstr("<|im_")));
    EXPECT_THAT(text, HasSubstr("user\naaa"));
    EXPECT_THAT(text, HasSubstr("assistant"));
}

TEST(EvalPrompt, IsRefusedWhereTheTemplateAloneIsTooLong) {
    EXPECT_THAT(message_of([] { cut_prompt(model(), std::string(99, 'a'), true, 4, Truncation::message); }),
                HasSubstr("no room for a message"));
}

Answer answer_of(const Model& of, const AnswerRules& rules) {
    const auto prompt = of.tokenize("Some words to go on from.", true, true);
    return answer(of, resolve({.method = "fullkv"}, of.hparams()), {}, prompt, rules,
                  [](const PrefillProgress&) { return true; });
}

TEST(EvalAnswer, MayNotBeEmptyWhereThatIsForbidden) {
    // A model whose most likely first token ends the answer: what that token is, another model has said.
    Session session(model(), {.method = "fullkv"});
    session.prefill(model().tokenize("Some words to go on from.", true, true));
    const auto logits = session.logits();
    const auto first = uint32_t(std::max_element(logits.begin(), logits.end()) - logits.begin());
    test::TinyModel ends;
    ends.edit_keys = [&](gguf_context* keys) { gguf_set_val_u32(keys, "tokenizer.ggml.eos_token_id", first); };
    const Model other = Model::load(test::write_tiny_model(ends), {.n_threads = 1});
    EXPECT_EQ(answer_of(other, {.n_predict = 3}).n_tokens, 1);
    EXPECT_EQ(answer_of(other, {.n_predict = 3}).text, "");
    EXPECT_GT(answer_of(other, {.n_predict = 3, .forbids_empty = true}).n_tokens, 1);
    EXPECT_EQ(answer_of(model(), {.n_predict = 3}).n_tokens, 3);
}

TEST(EvalAnswer, StopsWhereItIsTold) {
    int calls = 0;
    const auto stop = [&](const PrefillProgress& progress) {
        return progress.rows_done < progress.rows_total || ++calls < 3;
    };
    try {
        answer(model(), resolve({.method = "fullkv"}, model().hparams()), {}, model().tokenize("abc", true, true),
               {.n_predict = 50}, stop);
        FAIL() << "it went on";
    } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::cancelled);
    }
}

}  // namespace
}  // namespace fastkv::eval
