// fastkv bench in its parts, and as a command: what it runs in which order, what it prints, what it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "bench/comparison.h"
#include "bench/statistics.h"
#include "cli/number_list.h"
#include "cli/text.h"
#include "model/memory.h"
#include "support/message.h"
#include "support/process.h"
#include "support/tiny_model.h"

namespace fastkv {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using Json = nlohmann::ordered_json;
using Arguments = std::vector<std::string>;

using test::message_of;

// ---- lists of numbers ----------------------------------------------------------------------------------------------

std::vector<int> numbers(const std::string& text) { return cli::parse_number_list("-p", text, "a number", 0); }

TEST(BenchNumbers, ListsAndRanges) {
    EXPECT_THAT(numbers("1000"), ElementsAre(1000));
    EXPECT_THAT(numbers("1000,8000"), ElementsAre(1000, 8000));
    EXPECT_THAT(numbers("3-6"), ElementsAre(3, 4, 5, 6));
    EXPECT_THAT(numbers("100-350+100"), ElementsAre(100, 200, 300));
    EXPECT_THAT(numbers("512-4096*2,0"), ElementsAre(512, 1024, 2048, 4096, 0));
    EXPECT_THAT(numbers("2147483647-2147483647*2"), ElementsAre(2147483647));
}

TEST(BenchNumbers, RefuseWhatIsNone) {
    for (const char* text : {"", "many", "1,,2", "1-", "-1", "5-4", "1-9+0", "1-9*1", "0-9*2", "1-9/2", "1-2-3", "1e3",
                             "0-100000000", "99999999999"}) {
        EXPECT_THROW(numbers(text), Error) << text;
    }
}

TEST(BenchStatistics, MedianAndSpread) {
    EXPECT_EQ(bench::median(std::vector{3.0, 1.0, 2.0}), 2);
    EXPECT_EQ(bench::median(std::vector{4.0, 1.0, 2.0, 3.0}), 2.5);
    EXPECT_NEAR(bench::standard_deviation(std::vector{2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0}), 2.13809, 1e-5);
    EXPECT_EQ(bench::standard_deviation(std::vector{2.0}), 0);
}

// ---- lists of methods ----------------------------------------------------------------------------------------------

TEST(BenchMethods, TakeTheirOwnParametersAndTheSharedOnesTheyHave) {
    MethodParams shared;
    shared.retain_rate = 0.3;
    shared.kernel = 21;
    const auto methods = bench::parse_methods("fullkv,fastkv:tsp_layer=1:retain-rate=0.1,snapkv,fastkv", shared);
    ASSERT_EQ(methods.size(), 4u);
    EXPECT_EQ(method_text(methods[0].params), "fullkv");
    EXPECT_EQ(method_text(methods[1].params), "fastkv --retain-rate 0.1 --tsp-layer 1 --kernel 21");
    EXPECT_EQ(methods[1].name, "fastkv:tsp_layer=1:retain-rate=0.1");
    EXPECT_EQ(method_text(methods[2].params), "snapkv --retain-rate 0.3 --kernel 21");
    EXPECT_EQ(method_text(methods[3].params), "fastkv --retain-rate 0.3 --kernel 21");
}

TEST(BenchMethods, RefuseWhatWouldBeIgnored) {
    const auto message = [](const std::string& text, const MethodParams& shared = {}) {
        return message_of([&] { bench::parse_methods(text, shared); });
    };
    EXPECT_THAT(message("fullkv:retain_rate=0.1"), HasSubstr("--retain-rate is not used by fullkv"));
    EXPECT_THAT(message("nokv"), HasSubstr("nokv is unknown; there are: fullkv"));
    EXPECT_THAT(message(""), HasSubstr("names none"));
    EXPECT_THAT(message("fullkv,,h2o"), HasSubstr("--methods: an empty name is unknown"));
    EXPECT_THAT(message("fastkv:tsp_layer"), HasSubstr("has no value"));
    EXPECT_THAT(message("fastkv:colour=1"), HasSubstr("colour"));
    EXPECT_THAT(message("fastkv:window=many"), HasSubstr("--window many"));
    MethodParams sinks;
    sinks.sinks = 4;
    EXPECT_THAT(message("fullkv,h2o", sinks), HasSubstr("--sinks is not used by fullkv, h2o"));
    EXPECT_THAT(message("fullkv,streamingllm", sinks), HasSubstr("no error"));
}

// ---- measuring -----------------------------------------------------------------------------------------------------

bench::NamedMethod named(const std::string& name) {
    MethodParams params;
    params.method = name;
    return {name, params};
}

bench::ComparisonParams comparison_params(const std::string& path, size_t n_tokens) {
    bench::ComparisonParams params;
    params.model_path = path;
    for (size_t i = 0; i < n_tokens; ++i) params.tokens.push_back(Token(3 + i * 7919 % 290));
    return params;
}

TEST(Bench, AllocatesWhatWasEstimated) {
    const Model model = Model::load(test::tiny_model_path());
    const auto tokens = comparison_params("", 600).tokens;
    for (const MethodInfo& info : list_methods()) {
        const bench::Test test{500, 20, 0};
        const MethodParams method = resolve(named(info.name).params, model.hparams());
        const bench::Sample sample = bench::measure(model, method, test, tokens, {}, [] { return true; });
        SessionParams session;
        session.n_predict = test.n_gen;
        EXPECT_EQ(sample.kv_cache_bytes, estimate(model, method, test.n_prompt, session).kv_cache_bytes) << info.name;
        EXPECT_GT(sample.prefill_seconds, 0) << info.name;
        EXPECT_GT(sample.decode_seconds, 0) << info.name;
    }
}

TEST(Bench, ReadsAtADepth) {
    const Model model = Model::load(test::tiny_model_path());
    const auto tokens = comparison_params("", 600).tokens;
    const auto cache = [&](const bench::Test& test) {
        return bench::measure(model, named("fullkv").params, test, tokens, {}, [] { return true; }).kv_cache_bytes;
    };
    // Every token leaves one entry, however it was read; a cache that grows for a later turn sets more aside.
    EXPECT_GE(cache({300, 20, 200}), cache({500, 20, 0}));
    EXPECT_LT(cache({300, 20, 0}), cache({500, 20, 0}));
    EXPECT_EQ(cache({0, 20, 500}), cache({500, 20, 0}));
    EXPECT_EQ(cache({0, 20, 0}), cache({1, 20, 0}));
}

// The measured runs in their order, as "repetition:method".
TEST(Bench, RunsInTurns) {
    bench::ComparisonParams params = comparison_params(test::tiny_model_path(), 100);
    std::vector<bench::Row> rows;
    for (const char* method : {"fullkv", "snapkv"}) rows.push_back({named(method), {20, 2, 0}, 1, 3, "", {}, ""});
    std::vector<std::string> order;
    const bool finished = run_comparison(params, rows, [&](const bench::ComparisonProgress& progress) {
        const std::string run = std::to_string(progress.repetition) + ":" + progress.row->method.name;
        if (order.empty() || order.back() != run) order.push_back(run);
        return true;
    });
    EXPECT_TRUE(finished);
    EXPECT_THAT(order, ElementsAre("-1:fullkv", "-1:snapkv", "0:fullkv", "0:snapkv", "1:fullkv", "1:snapkv", "2:fullkv",
                                   "2:snapkv"));
    for (const bench::Row& row : rows) EXPECT_EQ(row.samples.size(), 3u);
}

TEST(Bench, RowsRunAsOftenAsEachWants) {
    const bench::ComparisonParams params = comparison_params(test::tiny_model_path(), 100);
    std::vector<bench::Row> rows = {{named("fullkv"), {20, 2, 0}, 1, 1, "", {}, ""},
                                    {named("fullkv"), {20, 2, 0}, 1, 3, "", {}, ""}};
    EXPECT_TRUE(run_comparison(params, rows, [](const auto&) { return true; }));
    EXPECT_EQ(rows[0].samples.size(), 1u);
    EXPECT_EQ(rows[1].samples.size(), 3u);
}

TEST(Bench, KeepsWhatWasMeasuredWhenStopped) {
    bench::ComparisonParams params = comparison_params(test::tiny_model_path(), 100);
    params.warmup = false;
    std::vector<bench::Row> rows;
    for (const char* method : {"fullkv", "snapkv"}) rows.push_back({named(method), {20, 2, 0}, 1, 3, "", {}, ""});
    EXPECT_FALSE(run_comparison(params, rows, [&](const bench::ComparisonProgress& progress) {
        return progress.repetition < 1 || progress.row->method.name == "fullkv";
    }));
    EXPECT_EQ(rows[0].samples.size(), 2u);
    EXPECT_EQ(rows[1].samples.size(), 1u);
}

TEST(Bench, ARowThatFailsKeepsItsErrorAndTheOthersGoOn) {
    bench::ComparisonParams params = comparison_params(test::tiny_model_path(), 200);
    params.session.n_ctx = 100;
    std::vector<bench::Row> rows = {{named("fullkv"), {150, 2, 0}, 1, 3, "", {}, ""},
                                    {named("fullkv"), {20, 2, 0}, 1, 3, "", {}, ""}};
    EXPECT_TRUE(run_comparison(params, rows, [](const auto&) { return true; }));
    EXPECT_THAT(rows[0].error, HasSubstr("context"));
    EXPECT_THAT(rows[0].samples, IsEmpty());
    EXPECT_EQ(rows[1].error, "");
    EXPECT_EQ(rows[1].samples.size(), 3u);
}

#ifdef __linux__
TEST(Bench, APeakIsTheRowsOwn) {
#ifdef __SANITIZE_ADDRESS__
    GTEST_SKIP() << "AddressSanitizer keeps what was freed";
#endif
    if (!reset_peak_rss()) GTEST_SKIP() << "/proc may not be written here";
    test::TinyModel wide;
    wide.n_embd = 512;
    wide.head_dim = 128;
    const std::string path = test::write_tiny_model(wide);
    bench::ComparisonParams params = comparison_params(path, 4000);
    std::vector<bench::Row> rows = {{named("fullkv"), {3000, 1, 0}, 1, 2, "", {}, ""},
                                    {named("fullkv"), {50, 1, 0}, 1, 2, "", {}, ""}};
    EXPECT_TRUE(run_comparison(params, rows, [](const auto&) { return true; }));
    // The residual stream alone takes 3000 · 512 · 4 bytes.
    for (const int i : {0, 1}) {
        EXPECT_GT(rows[0].samples[size_t(i)].peak_rss_bytes, rows[1].samples[size_t(i)].peak_rss_bytes + 6'000'000);
    }
}
#endif

// ---- the command ---------------------------------------------------------------------------------------------------

test::ProcessResult bench_command(Arguments arguments) {
    const Arguments front = {FASTKV_COMMAND, "bench", "-m", test::tiny_model_path()};
    arguments.insert(arguments.begin(), front.begin(), front.end());
    return test::run_process(arguments);
}

std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) lines.push_back(line);
    return lines;
}

// Cells of a line of CSV; a quote within quotes stands twice.
std::vector<std::string> cells_of(const std::string& line) {
    std::vector<std::string> cells(1);
    bool quoted = false;
    for (const char c : line) {
        if (c == '"') {
            quoted = !quoted;
        } else if (c == ',' && !quoted) {
            cells.emplace_back();
        } else {
            cells.back() += c;
        }
    }
    return cells;
}

TEST(BenchCommand, PrintsARowForEveryCombination) {
    const auto result =
        bench_command({"-p", "32-64*2,0", "-n", "4,8", "-d", "0,16", "-t", "1,2", "-r", "2", "--methods",
                       "fullkv,fastkv:tsp_layer=1,fastkv", "--retain-rate", "0.25", "-o", "jsonl"});
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(result.err, "");
    const auto lines = lines_of(result.out);
    ASSERT_EQ(lines.size(), size_t(3 * 2 * 2 * 2 * 3));
    std::set<std::string> different;
    for (const std::string& line : lines) {
        const Json row = Json::parse(line);
        EXPECT_EQ(row.at("repetitions"), 2);
        EXPECT_EQ(row.at("decode_seconds_samples").size(), 2u);
        EXPECT_EQ(row.at("prefill_seconds").is_null(), row.at("n_prompt") == 0);
        EXPECT_EQ(row.at("end_to_end_tps").is_null(), row.at("n_prompt") == 0);
        EXPECT_TRUE(row.at("error").is_null());
        EXPECT_TRUE(row.at("name").get<std::string>().starts_with(row.at("method").get<std::string>()));
        different.insert(row.at("name").dump() + row.at("n_prompt").dump() + "/" + row.at("n_gen").dump() + "/" +
                         row.at("n_depth").dump() + "/" + row.at("n_threads").dump());
    }
    EXPECT_EQ(different.size(), lines.size());
}

TEST(BenchCommand, TakesListsAndRangesOfRepetitionsAndFlagsSeveralTimes) {
    const auto result =
        bench_command({"-p", "16-32*2", "-p", "48", "-n", "1", "-r", "1-2,3", "--methods", "fullkv", "-o", "jsonl"});
    ASSERT_EQ(result.code, 0) << result.err;
    std::vector<std::string> tests;
    for (const std::string& line : lines_of(result.out)) {
        const Json row = Json::parse(line);
        EXPECT_EQ(row.at("decode_seconds_samples").size(), row.at("repetitions"));
        tests.push_back(row.at("n_prompt").dump() + "x" + row.at("repetitions").dump());
    }
    EXPECT_THAT(tests, ElementsAre("16x1", "16x2", "16x3", "32x1", "32x2", "32x3", "48x1", "48x2", "48x3"));
}

TEST(BenchCommand, ListsOfValuesMakeSettings) {
    const auto result = bench_command({"-p", "32", "-n", "1", "-r", "1", "--methods", "fullkv,fastkv:tsp_layer=1",
                                       "--retain-rate", "0.25,0.5", "-o", "jsonl"});
    ASSERT_EQ(result.code, 0) << result.err;
    std::vector<std::string> names;
    for (const std::string& line : lines_of(result.out)) names.push_back(Json::parse(line).at("name"));
    EXPECT_THAT(names,
                ElementsAre("fullkv", "fastkv:tsp_layer=1:retain_rate=0.25", "fastkv:tsp_layer=1:retain_rate=0.5"));
    const auto all = bench_command({"-p", "32", "-n", "1", "-r", "1", "--methods", "all", "-o", "jsonl"});
    EXPECT_EQ(lines_of(all.out).size(), list_methods().size()) << all.err;
}

TEST(BenchCommand, JsonSaysWhatWasMeasuredOnWhat) {
    const auto result = bench_command({"-p", "300", "-n", "6", "-r", "3", "-o", "json", "-ctk", "f32"});
    ASSERT_EQ(result.code, 0) << result.err;
    const Json rows = Json::parse(result.out);
    ASSERT_EQ(rows.size(), 2u);
    EXPECT_EQ(rows[0].at("method"), "fullkv");
    const Json& row = rows[1];
    EXPECT_EQ(row.at("method"), "fastkv");
    EXPECT_EQ(row.at("params").at("retain_rate"), 0.1);
    EXPECT_EQ(row.at("params").at("pooling"), "max");
    EXPECT_EQ(row.at("n_prompt"), 300);
    EXPECT_EQ(row.at("n_gen"), 6);
    EXPECT_EQ(row.at("n_depth"), 0);
    EXPECT_GE(row.at("n_threads"), 1);
    EXPECT_EQ(row.at("type_k"), "f32");
    EXPECT_EQ(row.at("type_v"), "f16");
    EXPECT_EQ(row.at("model_filename"), test::tiny_model_path());
    EXPECT_EQ(row.at("model_type"), "llama f32");
    EXPECT_GT(row.at("model_size"), 0);
    EXPECT_GT(row.at("model_n_params"), 0);
    EXPECT_EQ(row.at("version"), version());
    EXPECT_TRUE(row.at("build_info").contains("ggml"));
    EXPECT_THAT(row.at("test_time").get<std::string>(), testing::MatchesRegex("....-..-..T..:..:..Z"));
    const auto seconds = row.at("prefill_seconds_samples").get<std::vector<double>>();
    const auto said = row.at("decode_seconds_samples").get<std::vector<double>>();
    const auto both = row.at("end_to_end_seconds_samples").get<std::vector<double>>();
    EXPECT_EQ(row.at("prefill_seconds"), bench::median(seconds));
    EXPECT_NEAR(row.at("prefill_tps").get<double>(), 300 / bench::median(seconds), 1e-6);
    EXPECT_NEAR(row.at("decode_tps").get<double>(), 6 / bench::median(said), 1e-6);
    EXPECT_NEAR(row.at("end_to_end_tps").get<double>(), 6 / bench::median(both), 1e-6);
    for (size_t i = 0; i < both.size(); ++i) EXPECT_NEAR(both[i], seconds[i] + said[i], 1e-9);
    EXPECT_GT(rows[0].at("kv_cache_bytes"), row.at("kv_cache_bytes"));
}

TEST(BenchCommand, CacheIsWhatInspectSays) {
    const auto bench = bench_command({"-p", "1000", "-n", "256", "-r", "1", "--no-warmup", "-o", "jsonl"});
    const auto inspect = test::run_process({FASTKV_COMMAND, "inspect", "-m", test::tiny_model_path(), "-p", "1000"});
    ASSERT_EQ(bench.code, 0) << bench.err;
    for (const std::string& line : lines_of(bench.out)) {
        const Json row = Json::parse(line);
        const std::string bytes = cli::bytes_text(row.at("kv_cache_bytes").get<uint64_t>());
        bool found = false;
        for (const std::string& text : lines_of(inspect.out)) {
            if (text.find("1,000  " + row.at("method").get<std::string>() + " ") == std::string::npos) continue;
            found = true;
            EXPECT_THAT(text, HasSubstr(" " + bytes + " "));
        }
        EXPECT_TRUE(found) << inspect.out;
    }
}

TEST(BenchCommand, CsvHasAColumnForEveryKey) {
    const auto result = bench_command({"-p", "50", "-n", "4", "-r", "2", "--methods", "fastkv,h2o", "-o", "csv"});
    ASSERT_EQ(result.code, 0) << result.err;
    const auto lines = lines_of(result.out);
    ASSERT_EQ(lines.size(), 3u);
    const auto names = cells_of(lines[0]);
    for (const size_t i : {1, 2}) {
        const auto cells = cells_of(lines[i]);
        ASSERT_EQ(cells.size(), names.size());
        std::map<std::string, std::string> row;
        for (size_t c = 0; c < cells.size(); ++c) row[names[c]] = cells[c];
        EXPECT_EQ(row["method"], i == 1 ? "fastkv" : "h2o");
        EXPECT_THAT(row["params"], HasSubstr("retain_rate=0.1"));
        EXPECT_EQ(row["n_prompt"], "50");
        EXPECT_EQ(row["error"], "");
        EXPECT_THAT(row["prefill_seconds_samples"], HasSubstr(" "));
    }
}

TEST(BenchCommand, MarkdownIsATable) {
    const auto result = bench_command({"-p", "50", "-n", "4", "-d", "20", "-r", "2", "--methods", "fullkv,gemfilter"});
    ASSERT_EQ(result.code, 0) << result.err;
    std::vector<std::string> table;
    for (const std::string& line : lines_of(result.out)) {
        if (line.starts_with("|")) table.push_back(line);
    }
    ASSERT_EQ(table.size(), 4u);
    for (const std::string& line : table) {
        EXPECT_EQ(std::count(line.begin(), line.end(), '|'), std::count(table[0].begin(), table[0].end(), '|'));
    }
    EXPECT_THAT(table[2], HasSubstr("| fullkv | pp50+tg4 @ d20 | "));
    EXPECT_THAT(result.out, HasSubstr("gemfilter: gemfilter --retain-rate 0.1"));
}

TEST(BenchCommand, ReadsGivenTokens) {
    const std::string path = test::temporary_path(".json");
    test::write_file(path, "[5, 6, 7, 8, 9, 10]");
    EXPECT_EQ(bench_command({"--tokens", path, "-p", "4", "-n", "2", "-r", "1"}).code, 0);
    const auto more = bench_command({"--tokens", path, "-p", "4", "-n", "3", "-r", "1"});
    EXPECT_EQ(more.code, 1);
    EXPECT_THAT(more.err, HasSubstr("holds 6 token ids, the longest row takes 7"));
    test::write_file(path, "[5, 6, 70000]");
    EXPECT_THAT(bench_command({"--tokens", path, "-p", "2", "-n", "1"}).err, HasSubstr("outside the vocabulary"));
}

TEST(BenchCommand, RefusesBeforeAnythingRuns) {
    const auto error_of = [](const Arguments& arguments, int code) {
        const auto result = bench_command(arguments);
        EXPECT_EQ(result.code, code) << result.err;
        EXPECT_EQ(result.out, "");
        return result.err;
    };
    EXPECT_THAT(error_of({"-p", "0", "-n", "0"}, 2), HasSubstr("measures nothing"));
    EXPECT_THAT(error_of({"-p", "-5"}, 2), HasSubstr("-p"));
    EXPECT_THAT(error_of({"-n", "x"}, 2), HasSubstr("-n x"));
    EXPECT_THAT(error_of({"-r", "0"}, 2), HasSubstr("-r 0 is too small: at least 1"));
    EXPECT_THAT(error_of({"-r", "3,x"}, 2), HasSubstr("-r x is not a whole number"));
    EXPECT_THAT(error_of({"-t", "2000"}, 2), HasSubstr("-t 2000"));
    EXPECT_THAT(error_of({"-o", "xml"}, 2), HasSubstr("md, csv, json, jsonl"));
    EXPECT_THAT(error_of({"--methods", "fullkv", "--retain-rate", "0.2"}, 2), HasSubstr("--retain-rate is not used"));
    EXPECT_THAT(error_of({"--methods", "fastkv:tsp_layer=77"}, 2), HasSubstr("--tsp-layer 77"));
    EXPECT_THAT(error_of({"-p", "100,5000"}, 1), HasSubstr("the context holds 4096"));
}

TEST(BenchCommand, InterruptedItPrintsWhatItHas) {
    const auto result = test::run_on_terminal({FASTKV_COMMAND, "bench", "-m", test::tiny_model_path(), "-p", "500",
                                               "-n", "4", "-r", "1000000", "-o", "jsonl"},
                                              [](pid_t pid, const std::string& err) {
                                                  if (err.find(" left") == std::string::npos)
                                                      return false;  // it has measured every row
                                                  kill(pid, SIGINT);
                                                  return true;
                                              });
    EXPECT_EQ(result.code, 130) << result.err;
    EXPECT_THAT(result.err, HasSubstr("left"));
    EXPECT_THAT(result.err, HasSubstr("interrupted"));
    const auto lines = lines_of(result.out);
    ASSERT_EQ(lines.size(), 2u);
    for (const std::string& line : lines) EXPECT_GE(Json::parse(line).at("repetitions"), 1);
}

}  // namespace
}  // namespace fastkv
