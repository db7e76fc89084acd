// fastkv report: what it reads, what the page says, and that markup in results stays text.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "report/evaluations.h"
#include "report/page.h"
#include "support/markup.h"
#include "support/process.h"
#include "support/tiny_model.h"

namespace fastkv::report {
namespace {

using eval::Json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
namespace fs = std::filesystem;
using Arguments = std::vector<std::string>;

// ---- files made by hand --------------------------------------------------------------------------------------------

using Files = std::map<std::string, std::string>;

Results read(const Files& files) {
    std::vector<std::string> names;
    for (const auto& [name, content] : files) names.push_back(name);
    return read_results(names, [&](const std::string& name) { return files.at(name); });
}

std::string page_of(const Files& files) { return page(read(files), {"results", "2026-02-03T04:05:06Z", "0.1.0"}); }

std::string summary_of(const std::string& evaluation, const std::string& hash = "abc",
                       const std::string& path = "m.gguf") {
    const Json run = {{"time", "2026-02-03T04:05:06Z"},
                      {"command", "fastkv eval " + evaluation},
                      {"version", "0.1.0"},
                      {"machine", {{"cpu", "A processor"}, {"n_threads", 2}}},
                      {"model", {{"path", "/models/" + path}, {"weights_bytes", 1000}}}};
    return Json({{"format", 1}, {"evaluation", evaluation}, {"settings", {{"model_hash", hash}}}, {"runs", {run}}})
        .dump();
}

struct Answer {
    std::string setting = "fullkv", task = "vt";
    int index = 0;
    double score = 1, prefill_seconds = 2;
    uint64_t kv_cache_bytes = 1000;
    int length = 1000;
    std::string error = {}, prediction = "an answer";
};

std::string line_of(const Answer& answer) {
    eval::Row row;
    row.id = answer.task + "/" + std::to_string(answer.length) + "/" + std::to_string(answer.index);
    row.setting = answer.setting;
    row.method = answer.setting.substr(0, answer.setting.find(' '));
    row.task = answer.task;
    row.index = answer.index;
    row.length = answer.length;
    row.references = {"wanted"};
    row.score = answer.score;
    row.prediction = answer.prediction;
    row.prefill_seconds = answer.prefill_seconds;
    row.kv_cache_bytes = answer.kv_cache_bytes;
    row.error = answer.error;
    return eval::row_json(row) + "\n";
}

const std::string fastkv_setting = "fastkv --retain-rate 0.1";

std::string four_answers() {
    return line_of({}) + line_of({.index = 1}) +
           line_of({.setting = fastkv_setting, .score = 0, .prefill_seconds = 1, .kv_cache_bytes = 100}) +
           line_of({.setting = fastkv_setting, .index = 1, .prefill_seconds = 1, .kv_cache_bytes = 100});
}

Json bench_row(const std::string& method, int n_prompt, double seconds) {
    return {{"model_filename", "/elsewhere/m.gguf"},
            {"model_size", 1000},
            {"version", "0.1.0"},
            {"cpu_info", "A processor"},
            {"method", method},
            {"params", method == "fullkv" ? Json::object() : Json{{"retain_rate", 0.1}}},
            {"n_prompt", n_prompt},
            {"n_gen", 8},
            {"n_depth", 0},
            {"n_threads", 2},
            {"repetitions", 3},
            {"test_time", "2026-02-03T04:05:06Z"},
            {"prefill_seconds", seconds},
            {"prefill_seconds_stddev", 0.01},
            {"prefill_tps", n_prompt / seconds},
            {"decode_tps", 50.0},
            {"end_to_end_seconds", seconds + 0.2},
            {"end_to_end_tps", 8 / (seconds + 0.2)},
            {"kv_cache_bytes", 2000},
            {"peak_rss_bytes", nullptr},
            {"error", nullptr}};
}

std::string bench_lines() {
    return bench_row("fullkv", 500, 1).dump() + "\n" + bench_row("fullkv", 1000, 2).dump() + "\n" +
           bench_row("fastkv", 500, 0.5).dump() + "\n" + bench_row("fastkv", 1000, 0.5).dump() + "\n";
}

// ---- reading -------------------------------------------------------------------------------------------------------

TEST(ReportResults, AreSortedByModel) {
    const Results results = read({{"a/samples.jsonl", four_answers()},
                                  {"a/summary.json", summary_of("ruler")},
                                  {"b/samples.jsonl", four_answers()},
                                  {"b/summary.json", summary_of("ruler", "other", "n.gguf")},
                                  {"bench.jsonl", bench_lines()}});
    EXPECT_THAT(results.complaints, IsEmpty());
    ASSERT_EQ(results.models.size(), 2u);
    EXPECT_EQ(results.models[0].file, "m.gguf");
    ASSERT_EQ(results.models[0].evaluations.size(), 1u);
    EXPECT_EQ(results.models[0].evaluations[0].rows.size(), 4u);
    ASSERT_EQ(results.models[0].benches.size(), 1u) << "the same name and size are the same model";
    EXPECT_EQ(results.models[0].benches[0].rows[2].setting, fastkv_setting) << "as fastkv eval writes it";
    EXPECT_EQ(results.models[1].file, "n.gguf");
    EXPECT_THAT(results.models[1].benches, IsEmpty());
}

TEST(ReportResults, TakeBenchAsAListToo) {
    const Json list = {bench_row("fullkv", 500, 1), bench_row("fastkv", 500, 0.5)};
    const Results results = read({{"bench.json", list.dump(2)}});
    ASSERT_EQ(results.models.size(), 1u);
    EXPECT_EQ(results.models[0].benches[0].rows.size(), 2u);
}

TEST(ReportResults, NameDamagedLinesAndKeepTheOthers) {
    std::string samples = four_answers();
    samples.insert(samples.find('\n') + 1, "{\"id\": 3}\n[1]\n");
    samples += line_of({.index = 2, .score = 7}) + line_of({}) + "{\"half";
    const Results results = read({{"a/samples.jsonl", samples},
                                  {"a/summary.json", summary_of("ruler")},
                                  {"b/samples.jsonl", four_answers()},
                                  {"b/summary.json", "{\"evalu"},
                                  {"bench.jsonl", bench_lines() + "{\"method\": \"fullkv\"}\nnothing\n"},
                                  {"c/samples.jsonl", four_answers()}});
    EXPECT_EQ(results.models[0].evaluations[0].rows.size(), 4u);
    EXPECT_EQ(results.models[0].benches[0].rows.size(), 4u);
    EXPECT_THAT(results.complaints,
                ElementsAre("a/samples.jsonl: line 3 is not a JSON object",
                            HasSubstr("a/samples.jsonl: line 2 is no result of fastkv eval"),
                            HasSubstr("a/samples.jsonl: line 7 is no result of fastkv eval: \"score\" is not between"),
                            HasSubstr("a/samples.jsonl: line 8 is no result of fastkv eval: a sample that stands"),
                            "b/summary.json is not a JSON object", "c/samples.jsonl has no summary.json beside it",
                            "bench.jsonl: line 6 is not a JSON object",
                            "bench.jsonl: line 5 is no row of fastkv bench: it lacks its keys"));
}

TEST(ReportResults, CheckWhatEachEvaluationNeeds) {
    const auto complaint_of = [](const std::string& evaluation, const Json& more) {
        Json row = Json::parse(line_of({.task = evaluation == "longbench" ? "no_set" : "doc"}));
        row.update(more);
        const Results results = read({{"samples.jsonl", row.dump() + "\n"}, {"summary.json", summary_of(evaluation)}});
        return results.complaints.empty() ? "" : results.complaints[0];
    };
    EXPECT_THAT(complaint_of("compare", {{"kl", "none"}, {"agrees", {1}}}), HasSubstr("line 1 is no result"));
    EXPECT_EQ(complaint_of("compare", {{"kl", {0.5}}, {"agrees", {1}}}), "");
    EXPECT_THAT(complaint_of("oracle", {{"kept", {2.0}}}), HasSubstr("line 1 is no result"));
    EXPECT_THAT(complaint_of("longbench", Json::object()), HasSubstr("no_set"));
    EXPECT_THAT(complaint_of("divination", Json::object()), HasSubstr("\"evaluation\" is none that is known"));
}

TEST(ReportResults, SkipWhatHoldsNoResults) {
    const Results results = read({{"a/samples.jsonl", four_answers()},
                                  {"a/summary.json", summary_of("ruler")},
                                  {"a/cells.json", "[]"},
                                  {"notes.json", "{\"a\": 1}"},
                                  {"other/samples.jsonl", "{\"engine\": \"another\"}\n"},
                                  {"damaged.json", "{\"a\": "}});
    EXPECT_THAT(results.skipped, ElementsAre("other/samples.jsonl", "notes.json"));
    EXPECT_THAT(results.complaints, ElementsAre("damaged.json is damaged: it is no JSON"));
}

// ---- numbers -------------------------------------------------------------------------------------------------------

TEST(ReportStandings, CompareOnTheSamePrompts) {
    // The third prompt failed for FastKV, so it has no part in what is compared.
    const std::string lines = four_answers() + line_of({.index = 2, .score = 0, .prefill_seconds = 90}) +
                              line_of({.setting = fastkv_setting, .index = 2, .error = "no room"});
    const std::vector<Standing> all = standings("ruler", eval::rows_of(lines, "samples.jsonl"));
    ASSERT_EQ(all.size(), 2u);
    EXPECT_NEAR(all[0].score.score.mean, 2.0 / 3, 1e-9);
    EXPECT_FALSE(all[0].difference);
    EXPECT_EQ(all[1].score.score.mean, 0.5);
    EXPECT_EQ(all[1].score.n_failed, 1);
    ASSERT_TRUE(all[1].difference);
    EXPECT_EQ(all[1].difference->mean, -0.5);
    EXPECT_EQ(all[1].difference->n, 2);
    EXPECT_EQ(all[1].speedup, 2);
    EXPECT_EQ(all[1].cache_share, 0.1);
}

TEST(ReportStandings, WeighTasksAndLengthsAlike) {
    std::string lines = line_of({.score = 1, .length = 500});
    for (int i = 0; i < 9; ++i) lines += line_of({.index = i, .score = 0});
    EXPECT_EQ(standings("ruler", eval::rows_of(lines, "samples.jsonl"))[0].score.score.mean, 0.5);
}

TEST(ReportStandings, DoWithoutFullKv) {
    const auto all = standings("ruler", eval::rows_of(line_of({.setting = fastkv_setting}), "samples.jsonl"));
    EXPECT_FALSE(all[0].difference);
    EXPECT_FALSE(all[0].speedup);
    EXPECT_FALSE(all[0].cache_share);
}

// ---- the page ------------------------------------------------------------------------------------------------------

Files everything() {
    return {{"a/samples.jsonl", four_answers() + line_of({.index = 2, .error = "no memory"})},
            {"a/summary.json", summary_of("ruler")},
            {"bench.jsonl", bench_lines()},
            {"notes.json", "{}"}};
}

TEST(ReportPage, IsWellFormedAndNeedsNothingElse) {
    const std::string html = page_of(everything());
    EXPECT_EQ(test::markup_problem(html), "");
    for (const char* outside : {"<link", "<img", "src=", "url(", "@import", "<iframe"}) {
        EXPECT_THAT(html, Not(HasSubstr(outside)));
    }
    // The only addresses are the names of SVG and places on the page.
    for (size_t at = html.find("http"); at != html.npos; at = html.find("http", at + 1)) {
        EXPECT_EQ(html.substr(at, 26), "http://www.w3.org/2000/svg");
    }
    EXPECT_THAT(html, HasSubstr("href=\"#model-0-eval-0\""));
    EXPECT_THAT(html, HasSubstr("id=\"model-0-eval-0\""));
}

TEST(ReportPage, IsLightAndDark) {
    const std::string html = page_of(everything());
    for (const char* part : {"prefers-color-scheme: dark", ":root[data-theme=dark] {",
                             ":root[data-theme=dark] .plot .s0", "id=\"theme\"", "@media print"}) {
        EXPECT_THAT(html, HasSubstr(part));
    }
}

TEST(ReportPage, SaysWhatWasMeasured) {
    const std::string html = page_of(everything());
    EXPECT_EQ(html.find("NaN"), html.npos);
    EXPECT_EQ(html.find(">nan"), html.npos);
    for (const char* part :
         {"m.gguf", "A processor", "2026-02-03 04:05", "fastkv eval ruler", fastkv_setting.c_str(), "−50.0", "2.00×",
          "10.0 %", "Accuracy against time, 1,000 tokens", "Accuracy against memory, 1,000 tokens",
          "pp1000+tg8, 2 threads", "4.00×", "2.000 ± 0.010", "Time to first token", "1 of 5 answers failed",
          "no memory", "notes.json", "1 prompts answered worse than by FullKV"}) {
        EXPECT_THAT(html, HasSubstr(part));
    }
}

TEST(ReportPage, AShortNameMeansOneSetting) {
    // Each folder alone could call its setting "fastkv".
    const std::string html = page_of({{"a/samples.jsonl", line_of({.setting = "fastkv --retain-rate 0.1 --window 8"})},
                                      {"a/summary.json", summary_of("ruler")},
                                      {"b/samples.jsonl", line_of({.setting = "fastkv --retain-rate 0.2 --window 8"})},
                                      {"b/summary.json", summary_of("ruler")}});
    for (const char* name : {"<dt>fastkv --retain-rate 0.1</dt>", "<dt>fastkv --retain-rate 0.2</dt>"}) {
        EXPECT_THAT(html, HasSubstr(name));
    }
    EXPECT_THAT(html, Not(HasSubstr("<dt>fastkv</dt>")));
    EXPECT_THAT(html, HasSubstr("fastkv <span class=\"flag\">--retain-rate 0.2</span>"));  // does not break within
    EXPECT_THAT(html, HasSubstr("on 2026-02-03 04:05 UTC"));
}

TEST(ReportPage, PicturesTellSettingsOfOneMethodApart) {
    // On the page their names are long, and begin alike.
    const std::string front = "fastkv --retain-rate 0.1 --tsp-rate 0.2 --tsp-layer ";
    std::string samples, curves;
    for (const int layer : {5, 10}) {
        samples += line_of({.setting = front + std::to_string(layer)});
        Json row = Json::parse(line_of({.setting = front + std::to_string(layer), .score = 0.5}));
        row.update(
            {{"kept", {0.5, 0.5}}, {"best", {0.6, 0.6}}, {"kept_all", {0.5, 0.5}}, {"propagated", Json::array()}});
        curves += row.dump() + "\n";
    }
    const std::string html = page_of({{"a/samples.jsonl", samples},
                                      {"a/summary.json", summary_of("ruler")},
                                      {"b/samples.jsonl", curves},
                                      {"b/summary.json", summary_of("oracle")},
                                      {"c/samples.jsonl", line_of({.setting = "fastkv --retain-rate 0.2"})},
                                      {"c/summary.json", summary_of("ruler")}});
    for (const char* name : {">fastkv --tsp-layer 5<", ">fastkv --tsp-layer 10<"}) EXPECT_THAT(html, HasSubstr(name));
    const std::string oracle = html.substr(html.find("<figcaption>Share of the answer"));
    EXPECT_THAT(oracle, HasSubstr("stroke-width='2.2' stroke-linecap='round' class='s0'"));
    EXPECT_THAT(oracle, HasSubstr("stroke-width='2.2' stroke-linecap='round' class='s1'"));
}

TEST(ReportPage, HasNoNumbersWhereNothingWasAnswered) {
    std::string samples;
    for (const int length : {1000, 2000})
        samples += line_of({.task = "needle", .length = length, .error = "no memory"});
    const std::string html = page_of({{"samples.jsonl", samples}, {"summary.json", summary_of("needle")}});
    EXPECT_THAT(html, HasSubstr("fullkv: no answers"));
    for (const char* wrong : {"<figcaption>Accuracy", "<figcaption>Score over", ">0.00<", ">0.0<"}) {
        EXPECT_THAT(html.substr(0, html.find("Score by length")), Not(HasSubstr(wrong)));
    }
}

TEST(ReportPage, KeepsMarkupAsText) {
    const std::string evil = "<script>alert('x')</script>\x1b&\"";
    Files files = everything();
    files["a/samples.jsonl"] += line_of({.setting = fastkv_setting, .index = 2, .error = evil}) +
                                line_of({.index = 3}) +
                                line_of({.setting = fastkv_setting, .index = 3, .score = 0, .prediction = evil}) +
                                line_of({.setting = "fastkv --evil " + evil, .task = "cwe" + evil});
    files["a/summary.json"] = summary_of("ruler", evil, "m" + evil + ".gguf");
    files["x" + evil + ".json"] = "{}";
    const std::string html = page_of(files);
    EXPECT_EQ(test::markup_problem(html), "");
    EXPECT_THAT(html, Not(HasSubstr("<script>alert")));
    EXPECT_THAT(html, HasSubstr("&lt;script&gt;alert(&#39;x&#39;)"));
}

TEST(ReportPage, HasASectionForEachModel) {
    const std::string html = page_of({{"a/samples.jsonl", four_answers()},
                                      {"a/summary.json", summary_of("ruler")},
                                      {"b/samples.jsonl", four_answers()},
                                      {"b/summary.json", summary_of("ruler", "other", "n.gguf")}});
    EXPECT_THAT(html, HasSubstr("<h2>m.gguf</h2>"));
    EXPECT_THAT(html, HasSubstr("<h2>n.gguf</h2>"));
}

TEST(ReportPage, NamesWhatCouldNotBeRead) {
    Files files = everything();
    files["a/samples.jsonl"] += "damaged\n";
    EXPECT_THAT(page_of(files), HasSubstr("a/samples.jsonl: line 6 is not a JSON object"));
}

// ---- the command ---------------------------------------------------------------------------------------------------

/// Real results of all kinds that need no data of others.
const std::string& real_results() {
    static const std::string folder = [] {
        const std::string path = test::temporary_path(".results"), model = test::write_tiny_model({.n_layer = 4});
        const std::string text = test::temporary_path(".txt");
        fs::create_directories(path);
        test::write_file(text, "A first sentence. A second one, not much longer. And a third.\n");
        const Arguments methods = {"-m", model, "-t", "1", "--methods", "fullkv,fastkv,snapkv"};
        const auto run = [&](Arguments arguments, const test::ProcessOptions& options = {}) {
            arguments.insert(arguments.begin(), FASTKV_COMMAND);
            arguments.insert(arguments.end(), methods.begin(), methods.end());
            const auto result = test::run_process(arguments, options);
            EXPECT_EQ(result.code, 0) << result.err;
        };
        fs::create_directories(path + "/texts");
        test::write_file(path + "/texts/a.txt", test::read_file(text));
        run({"eval", "needle", "--data", path + "/texts", "--lengths", "600,800", "--depths", "2", "-o",
             path + "/needle"});
        run({"eval", "ruler", "--tasks", "niah_single_1,fwe", "--lengths", "1500", "--limit", "1", "-o",
             path + "/ruler"});
        run({"eval", "compare", "-f", text, "-q", "What?", "-n", "4", "-o", path + "/deep/compare"});
        run({"eval", "oracle", "-f", text, "-q", "What?", "-n", "4", "-o", path + "/deep/oracle"});
        run({"bench", "-p", "32,64", "-n", "2", "-r", "2", "-o", "jsonl"}, {.output_path = path + "/bench.jsonl"});
        return path;
    }();
    return folder;
}

test::ProcessResult report(const Arguments& more) {
    Arguments arguments = {FASTKV_COMMAND, "report"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return test::run_process(arguments);
}

TEST(ReportCommand, ShowsAllThatEvalAndBenchWrite) {
    const auto result = report({real_results()});
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(result.err, "") << "nothing is damaged, nothing unknown";
    EXPECT_EQ(result.out, real_results() + "/report.html\n");
    const std::string html = test::read_file(real_results() + "/report.html");
    EXPECT_EQ(test::markup_problem(html), "");
    for (const char* part :
         {"<h3>needle</h3>", "<h3>ruler</h3>", "compare (deep/compare)", "oracle (deep/oracle)", "bench (bench.jsonl)",
          "depth (%)", "niah_single_1", "KL(FullKV || method)", "best choice", "pp64+tg2"}) {
        EXPECT_THAT(html, HasSubstr(part));
    }
    EXPECT_EQ(html.find("<h2>"), html.rfind("<h2>")) << "one model";
}

TEST(ReportCommand, WritesWhereItIsTold) {
    const std::string path = test::temporary_path(".html");
    EXPECT_EQ(report({real_results(), "-o", path}).code, 0);
    EXPECT_THAT(test::read_file(path), HasSubstr("</html>"));
    EXPECT_EQ(report({real_results(), "-o", "/nowhere/page.html"}).code, 1);
}

TEST(ReportCommand, NamesDamageAndReportsTheRest) {
    const std::string folder = test::temporary_path(".damaged");
    fs::copy(real_results(), folder, fs::copy_options::recursive);
    test::write_file(folder + "/needle/samples.jsonl", "{}\n" + test::read_file(folder + "/needle/samples.jsonl"));
    test::write_file(folder + "/notes.json", "[1, 2]");
    const auto result = report({folder});
    EXPECT_EQ(result.code, 1);
    EXPECT_THAT(result.err, HasSubstr("fastkv: error: needle/samples.jsonl: line 1 is no result of fastkv eval"));
    EXPECT_THAT(result.err, HasSubstr("fastkv: note: notes.json holds no results"));
    EXPECT_THAT(test::read_file(folder + "/report.html"), HasSubstr("<h3>needle</h3>"));
}

TEST(ReportCommand, RefusesWhereThereAreNoResults) {
    const std::string empty = test::temporary_path(".empty");
    fs::create_directories(empty);
    const auto nothing = report({empty});
    EXPECT_EQ(nothing.code, 2);
    EXPECT_THAT(nothing.err, HasSubstr("holds no results: 'fastkv eval NAME -o DIR'"));
    EXPECT_FALSE(fs::exists(empty + "/report.html"));
    test::write_file(empty + "/damaged.json", "{");
    EXPECT_EQ(report({empty}).code, 1);
    EXPECT_EQ(report({empty + "/missing"}).code, 1);
    EXPECT_EQ(report({empty + "/damaged.json"}).code, 2);
    EXPECT_EQ(report({}).code, 2);
}

}  // namespace
}  // namespace fastkv::report
