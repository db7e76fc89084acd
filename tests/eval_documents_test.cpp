// Methods beside FullKV on documents: divergence from its answers, and the oracle of its attention.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "eval/compare.h"
#include "eval/divergence.h"
#include "eval/oracle.h"
#include "eval/runner.h"
#include "support/process.h"
#include "support/tiny_model.h"

namespace fastkv::eval {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
namespace fs = std::filesystem;

// ---- divergence ----------------------------------------------------------------------------------------------------

TEST(Divergence, IsKullbackLeiblers) {
    const std::vector<float> even = {1, 1}, uneven = {std::log(3.0f), 0};
    EXPECT_NEAR(kl_divergence(even, uneven), 0.5 * std::log(0.5 / 0.75) + 0.5 * std::log(0.5 / 0.25), 1e-6);
    EXPECT_NEAR(kl_divergence(uneven, even), 0.75 * std::log(0.75 / 0.5) + 0.25 * std::log(0.25 / 0.5), 1e-6);
    EXPECT_EQ(kl_divergence(uneven, uneven), 0);
    EXPECT_NEAR(kl_divergence(std::vector<float>{0, 1000}, std::vector<float>{1000, 1000}), std::log(2.0), 1e-6);
    EXPECT_EQ(top_token(std::vector<float>{1, 3, 3, 2}), 1);
}

// ---- shares of attention -------------------------------------------------------------------------------------------

LayerReport keeping(std::vector<std::vector<int>> kept, int n_head_cached) {
    return {.n_head_cached = n_head_cached, .kept = std::move(kept), .propagated = {}};
}

TEST(AttentionShare, CountsWhatEveryHeadKeeps) {
    // four query heads, two cached heads, five tokens
    const std::vector<float> sums = {8, 1, 1, 0, 0,  //
                                     8, 0, 0, 2, 0,  //
                                     0, 0, 0, 5, 5,  //
                                     0, 5, 0, 5, 0};
    const AnswerAttention attention{sums, 4, 5};
    const AttentionShare all = kept_share(attention, keeping({{0, 1}, {1, 4}}, 2), 0);
    EXPECT_NEAR(all.kept, (16 + 1 + 5 + 5) / 40.0, 1e-9);
    EXPECT_NEAR(all.best, (16 + 2 + 10 + 5) / 40.0, 1e-9);
    // without the first token; head 0 then has one token to choose
    const AttentionShare past = kept_share(attention, keeping({{0, 1}, {1, 4}}, 2), 1);
    EXPECT_NEAR(past.kept, (1 + 5 + 5) / 24.0, 1e-9);
    EXPECT_NEAR(past.best, (2 + 10 + 5) / 24.0, 1e-9);
    // one list for all, and one for every query head
    EXPECT_NEAR(kept_share(attention, keeping({{3}}, 2), 0).kept, 12 / 40.0, 1e-9);
    EXPECT_NEAR(kept_share(attention, keeping({{0}, {0}, {4}, {1}}, 4), 0).kept, 26 / 40.0, 1e-9);
    EXPECT_NEAR(share_on(std::vector{attention, attention}, {3, 4}, 0), 17 / 40.0, 1e-9);
}

// ---- on a model ----------------------------------------------------------------------------------------------------

std::string words(int n) {
    std::string text;
    for (int i = 0; i < n; ++i) text += "word" + std::to_string(i * i * 7 % 113) + (i % 9 == 8 ? ". " : " ");
    return text;
}

class Documents : public ::testing::Test {
  protected:
    std::string file_ = test::write_tiny_model({.n_layer = 4});
    Model model_ = Model::load(file_, {.n_threads = 2, .compute = Compute::f32});
    DocumentParams params_{
        .documents = {{"a.txt", words(60)}, {"b.txt", words(45)}}, .questions = {"What?", "Why not?"}, .n_predict = 12};

    std::vector<Row> run(const Measurement& measurement, const std::vector<std::string>& settings) const {
        std::vector<MethodParams> methods;
        for (const std::string& name : settings) {
            MethodParams method{.method = name};
            if (name == "fastkv") method.tsp_layer = 1;
            methods.push_back(resolve(method, model_.hparams()));
        }
        RunParams run_params;
        run_params.session.n_ctx = 4096;
        std::vector<Row> rows;
        run_evaluation(
            model_, measurement, methods, {}, run_params, [&](const Row& row) { rows.push_back(row); },
            [](const RunProgress&) { return true; });
        for (const Row& row : rows) EXPECT_EQ(row.error, "");
        return rows;
    }

    std::vector<Token> tokens(const Sample& sample) const { return prompt_tokens(model_, sample.message, true); }
};

TEST_F(Documents, AnotherTextOrQuestionIsAnotherSample) {
    const Compare compare(params_);
    const auto samples = compare.samples();
    ASSERT_EQ(samples.size(), 4u);
    EXPECT_THAT(samples[0].id, HasSubstr("a.txt@"));
    EXPECT_THAT(samples[3].id, HasSubstr(": Why not?"));
    EXPECT_THAT(compare.make(3).message, HasSubstr(words(45) + "\n\nWhy not?"));
    DocumentParams other = params_;
    other.documents[0].text += "!";
    EXPECT_NE(Compare(other).samples()[0].id, samples[0].id);
    EXPECT_EQ(Compare(other).samples()[2].id, samples[2].id);
    params_.limit = 3;
    EXPECT_EQ(Compare(params_).samples().size(), 3u);
    params_.questions.clear();
    EXPECT_THROW(Compare{params_}, Error);
}

TEST_F(Documents, CompareTellsEveryMethodFullKvsAnswer) {
    const Compare compare(params_);
    const auto rows = run(compare, {"fullkv", "streamingllm"});
    ASSERT_EQ(rows.size(), 8u);
    double largest = 0;
    for (size_t i = 0; i < rows.size(); i += 2) {
        const Row &full = rows[i], &own = rows[i + 1];
        EXPECT_EQ(full.score, 1);
        EXPECT_EQ(full.prediction, full.references.at(0));
        for (const double kl : full.more["kl"]) EXPECT_EQ(kl, 0);

        // The same by hand.
        const auto prompt = tokens(compare.make(i / 2));
        Session teacher(model_, {.method = "fullkv"}), told(model_, {.method = "streamingllm"});
        teacher.prefill(prompt);
        told.prefill(prompt);
        int agree = 0, n = 0;
        for (const double kl : own.more["kl"]) {
            const Token next = top_token(teacher.logits());
            EXPECT_NEAR(kl_divergence(teacher.logits(), told.logits()), kl, 1e-9);
            largest = std::max(largest, kl);
            agree += top_token(told.logits()) == next ? 1 : 0;
            ++n;
            teacher.decode(next);
            told.decode(next);
        }
        EXPECT_NEAR(own.score, double(agree) / n, 1e-9);
        EXPECT_EQ(own.references, full.references);
        EXPECT_EQ(own.score < 1, own.prediction != full.prediction);
    }
    EXPECT_GT(largest, 1e-3);  // a tenth of the prompt is not the same as all of it

    const auto tables = compare.tables(rows);
    ASSERT_EQ(tables.size(), 2u);
    EXPECT_EQ(tables[0].lines[0].cells[0].score.mean, 1);
    EXPECT_EQ(tables[1].lines[0].cells[0].score.mean, 0);
    EXPECT_GT(tables[1].lines[1].cells[0].score.mean, 0);
    EXPECT_THAT(table_text(tables[1]), HasSubstr(" 0.0000 |"));
    const auto files = compare.files(rows);
    ASSERT_EQ(files.size(), 1u);
    EXPECT_THAT(files[0].second, HasSubstr("## b.txt: Why not?"));
    EXPECT_THAT(files[0].second, HasSubstr("streamingllm:"));
}

TEST_F(Documents, OracleSharesOutTheAnswersAttention) {
    const Oracle oracle(params_);
    const auto rows = run(oracle, {"fullkv", "streamingllm", "fastkv", "gemfilter"});
    ASSERT_EQ(rows.size(), 16u);
    for (const Row& row : rows) {
        for (size_t layer = 0; layer < 4; ++layer) {
            const double kept = row.more["kept"][layer], best = row.more["best"][layer];
            EXPECT_LE(kept, best + 1e-6) << row.method << ", layer " << layer;
            EXPECT_LE(best, 1 + 1e-6);
            EXPECT_EQ(kept > 1 - 1e-6, row.method == "fullkv") << kept;
        }
    }
    // StreamingLLM's share by hand: the last tokens, for it keeps no others past the first.
    Session full(model_, {.method = "fullkv"}, {.record_attention = true});
    full.prefill(tokens(oracle.make(0)));
    for (int i = 0; i < params_.n_predict; ++i) {
        const Token next = top_token(full.logits());
        if (model_.is_end_of_generation(next)) break;
        full.decode(next);
    }
    const size_t n = size_t(full.n_prompt()), budget = n / 10;
    double all = 0, last = 0;
    for (size_t head = 0; head < 4; ++head) {
        const auto row = full.recorded_attention(2).subspan(head * n, n);
        all += std::accumulate(row.begin() + 4, row.end(), 0.0);
        last += std::accumulate(row.end() - std::ptrdiff_t(budget - 4), row.end(), 0.0);
    }
    EXPECT_EQ(rows[1].method, "streamingllm");
    EXPECT_NEAR(rows[1].more["kept"][2], last / all, 1e-6);

    const Json& propagated = rows[2].more["propagated"];  // fastkv
    ASSERT_EQ(propagated.size(), 1u);
    EXPECT_EQ(propagated[0]["layer"], 1);
    EXPECT_EQ(propagated[0]["tokens"], n / 5);
    EXPECT_GT(propagated[0]["share"], rows[2].more["kept"][3]);
    EXPECT_TRUE(rows[1].more["propagated"].empty());

    const auto table = oracle.tables(rows).at(0);
    ASSERT_EQ(table.lines.size(), 4u);
    EXPECT_EQ(table.lines[1].cells[3].score.n, 0);  // nothing was propagated
    EXPECT_EQ(table.lines[2].cells[3].score.n, 4);
    const auto files = oracle.files(rows);
    EXPECT_EQ(files[0].first, "layers.svg");
    EXPECT_THAT(files[0].second, HasSubstr(">gemfilter</text>"));
    EXPECT_THAT(files[0].second, Not(HasSubstr(">fullkv</text>")));
}

// ---- the command ---------------------------------------------------------------------------------------------------

test::ProcessResult fastkv_eval(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {FASTKV_COMMAND, "eval"});
    return test::run_process(arguments);
}

TEST(EvalDocumentsCommand, AsksAFolderOfTexts) {
    const std::string model = test::write_tiny_model({}), folder = test::temporary_path(""), out = folder + "-results";
    fs::create_directory(folder);
    test::write_file(folder + "/b.md", words(40));
    test::write_file(folder + "/a.txt", words(50));
    test::write_file(folder + "/c.bin", "\xff\xfe");
    const std::vector<std::string> shared = {"-m", model, "-t", "2", "-f", folder, "-q", "What?", "-n", "4", "-o", out};
    for (const std::string name : {"compare", "oracle"}) {
        std::vector<std::string> arguments = shared;
        arguments.insert(arguments.begin(), name);
        arguments.back() += name;
        const auto result = fastkv_eval(arguments);
        EXPECT_EQ(result.code, 0) << result.err;
        EXPECT_THAT(result.out, HasSubstr("fastkv"));
        const Json summary = Json::parse(test::read_file(out + name + "/summary.json"));
        EXPECT_EQ(summary["n_samples"], 4);
        EXPECT_TRUE(fs::exists(out + name + (name == "oracle" ? "/layers.svg" : "/answers.md")));
        // Nothing is left to do, and nothing is counted twice.
        EXPECT_EQ(fastkv_eval(arguments).code, 0);
        EXPECT_EQ(Json::parse(test::read_file(out + name + "/summary.json"))["n_samples"], 4);
    }
}

TEST(EvalDocumentsCommand, RefusesWhatItCannotAsk) {
    const std::string model = test::write_tiny_model({}), text = test::temporary_path(".txt");
    test::write_file(text, words(20));
    const auto expect = [&](std::vector<std::string> arguments, int code, const std::string& message) {
        arguments.insert(arguments.begin() + 1, {"-m", model});
        const auto result = fastkv_eval(arguments);
        EXPECT_EQ(result.code, code);
        EXPECT_THAT(result.err, HasSubstr(message));
    };
    const std::string out = test::temporary_path("");
    expect({"compare", "-q", "What?", "-o", out}, 2, "-f FILE|DIR is missing");
    expect({"compare", "-f", text, "-o", out}, 2, "there is no question");
    expect({"compare", "-f", text, "-q", " ", "-o", out}, 2, "-q is empty");
    expect({"oracle", "-f", text + ".none", "-q", "What?", "-o", out}, 1, ".none");
    expect({"oracle", "-f", text, "-q", "What?", "-n", "0", "-o", out}, 2, "-n 0 is too small");
    expect({"oracle", "-f", text, "-q", "What?", "-n", "100000", "-o", out}, 2, "leaves no room");
    const std::string folder = test::new_folder("");
    test::write_file(folder + "/a.txt", words(20));
    expect({"oracle", "-f", folder, "-q", "What?", "--methods", "none", "-o", out}, 2, "--methods: none is unknown");
    EXPECT_FALSE(fs::exists(out));
}

}  // namespace
}  // namespace fastkv::eval
