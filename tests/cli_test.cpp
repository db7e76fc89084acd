// The command as its users meet it: the real program, its exit codes, what it prints and what it leaves behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/process.h"
#include "support/tiny_model.h"

#ifndef FASTKV_COMMAND
#error "FASTKV_COMMAND: the path of the program under test"
#endif

namespace fastkv {
namespace {

using test::ProcessOptions;
using test::ProcessResult;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
namespace fs = std::filesystem;
using Arguments = std::vector<std::string>;
using Json = nlohmann::ordered_json;

// A model whose context never ends an answer or refuses a prompt here.
const std::string& long_model_path() {
    static const std::string path = [] {
        test::TinyModel model;
        model.n_ctx = 1 << 20;
        return test::write_tiny_model(model);
    }();
    return path;
}

std::string text_file(const std::string& content) {
    const std::string path = test::temporary_path(".txt");
    test::write_file(path, content);
    return path;
}

std::string words(int n) {
    std::string text;
    for (int i = 0; i < n; ++i) text += "word" + std::to_string(i * 7 % 13) + " ";
    return text;
}

Arguments with_binary(Arguments arguments) {
    arguments.insert(arguments.begin(), FASTKV_COMMAND);
    return arguments;
}

ProcessResult fastkv(const Arguments& arguments, const ProcessOptions& options = {}) {
    return test::run_process(with_binary(arguments), options);
}

// fastkv run on the tiny model.
ProcessResult run(Arguments arguments, const ProcessOptions& options = {}) {
    const Arguments front = {"run", "-m", test::tiny_model_path()};
    arguments.insert(arguments.begin(), front.begin(), front.end());
    return fastkv(arguments, options);
}

Json run_traced(Arguments arguments) {
    const std::string trace = test::temporary_path(".json");
    arguments.insert(arguments.end(), {"--trace", trace});
    const ProcessResult result = run(arguments);
    EXPECT_EQ(result.code, 0) << result.err;
    Json json = Json::parse(test::read_file(trace), nullptr, false);
    EXPECT_FALSE(json.is_discarded());
    return json;
}

std::string token_file(int n) {
    Json ids = Json::array();
    for (int i = 0; i < n; ++i) ids.push_back(3 + (i * 7919 + i / 17) % 290);
    return text_file(ids.dump());
}

// ---- help and version ------------------------------------------------------------------------------------------

TEST(Command, HelpTeaches) {
    const ProcessResult top = fastkv({"--help"});
    EXPECT_EQ(top.code, 0);
    EXPECT_THAT(top.out, HasSubstr("run"));
    EXPECT_THAT(top.out, HasSubstr("inspect"));
    EXPECT_THAT(top.out, HasSubstr("tune"));
    const ProcessResult help = fastkv({"run", "--help"});
    EXPECT_EQ(help.code, 0);
    for (const char* flag : {"-m,",
                             "-f,",
                             "-p,",
                             "-q,",
                             "-n,",
                             "-c,",
                             "-t,",
                             "-ngl,",
                             "-s,",
                             "-v,",
                             "--temp",
                             "--top-k",
                             "--top-p",
                             "--min-p",
                             "--ignore-eos",
                             "--repeat-penalty",
                             "--no-display-prompt",
                             "--raw",
                             "--tokens",
                             "--trace",
                             "--compute",
                             "--expand",
                             "--ops",
                             "--method",
                             "--retain-rate",
                             "--tsp-rate",
                             "--tsp-layer",
                             "--window",
                             "--kernel",
                             "--pooling",
                             "--budget",
                             "--tsp-len",
                             "--select-per",
                             "--score",
                             "--tsp-score-layers",
                             "--head-floor",
                             "--layer-budget",
                             "--h2o-mask",
                             "--h2o-decode",
                             "--sinks",
                             "--streaming",
                             "--filter-layer",
                             "--pyramid-preset",
                             "Examples:",
                             "fastkv: ",
                             "fullkv: "}) {
        EXPECT_THAT(help.out, HasSubstr(flag));
    }
}

TEST(Command, VersionNamesTheLibraries) {
    const ProcessResult result = fastkv({"--version"});
    EXPECT_EQ(result.code, 0);
    EXPECT_THAT(result.out, StartsWith("fastkv "));
    EXPECT_THAT(result.out, HasSubstr("ggml"));
}

// ---- bad input -------------------------------------------------------------------------------------------------

struct BadInput {
    Arguments arguments;
    int code;
    std::string message;
    std::string input = "";
};

void expect_refused(const BadInput& bad) {
    const std::string folder = test::new_folder(".dir");
    Arguments arguments = bad.arguments;
    if (!arguments.empty() && arguments[0] == "run" && std::ranges::find(arguments, "--trace") == arguments.end()) {
        arguments.insert(arguments.begin() + 1, {"--trace", folder + "/trace.json"});
    }
    std::string shown;
    for (const std::string& argument : arguments) shown += " " + argument;
    SCOPED_TRACE("fastkv" + shown);
    ProcessOptions options;
    options.input = bad.input;
    const ProcessResult result = fastkv(arguments, options);
    EXPECT_EQ(result.code, bad.code);
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, StartsWith("fastkv: error: "));
    EXPECT_THAT(result.err, HasSubstr(bad.message));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_TRUE(fs::is_empty(folder)) << "something was left behind";
}

TEST(BadInput, CommandLine) {
    const std::string m = test::tiny_model_path();
    const BadInput cases[] = {
        {{}, 2, "no command"},
        {{"walk"}, 2, "there is no 'walk'; there are run, chat,"},
        {{"eval"}, 2, "name one of needle, ruler,"},
        {{"eval", "nedle"}, 2, "there is no 'nedle'; there are needle, ruler,"},
        {{"run"}, 2, "--model is required"},
        {{"inspect"}, 2, "--model is required"},
        {{"run", "-p", "x", "-m"}, 2, "--model"},
        {{"run", "-m", m, "-p", "x", "--no-such-flag"}, 2, "--no-such-flag"},
        {{"run", "-m", m, "-p", "x", "stray"}, 2, "stray"},
        {{"run", "-m", m, "-p", "x", "-n", "many"}, 2, "-n many"},
        {{"run", "-m", m, "-p", "x", "-n", "-2"}, 2, "-n -2"},
        {{"run", "-m", m, "-p", "x", "-n", "99999999999"}, 2, "-n 99999999999"},
        {{"run", "-m", m, "-p", "x", "-c", "-1"}, 2, "-c -1"},
        {{"run", "-m", m, "-p", "x", "-t", "-1"}, 2, "-t -1"},
        {{"run", "-m", m, "-p", "x", "-ngl", "few"}, 2, "-ngl few"},
        {{"run", "-m", m, "-p", "x", "--compute", "f64"}, 2, "auto, f32, bf16, int8"},
        {{"run", "-m", m, "-p", "x", "--expand", "maybe"}, 2, "auto, always, never"},
        {{"run", "-m", m, "-p", "x", "--ops", "odd"}, 2, "auto, standard"},
        {{"run", "-m", m, "-p", "x", "-f", "y"}, 2, "-f and -p"},
        {{"run", "-m", m, "--tokens", "x", "-p", "y"}, 2, "--tokens"},
        {{"run", "-m", m, "--tokens", "x", "-q", "y"}, 2, "--tokens"},
        {{"inspect", "-m", m, "-p", "0"}, 2, "-p 0"},
        {{"inspect", "-m", m, "-p", "100,x"}, 2, "-p x"},
    };
    for (const BadInput& bad : cases) expect_refused(bad);
}

TEST(BadInput, MethodParameters) {
    const auto refused = [](const Arguments& flags, const std::string& message) {
        Arguments arguments = {"run", "-m", test::tiny_model_path(), "-p", "hello"};
        arguments.insert(arguments.end(), flags.begin(), flags.end());
        expect_refused({arguments, 2, message});
    };
    refused({"--method", "snapkv2"}, "there are: fullkv, fastkv");
    refused({"--retain-rate", "7"}, "--retain-rate 7 is outside (0, 1]");
    refused({"--retain-rate", "0"}, "--retain-rate 0 is outside (0, 1]");
    refused({"--retain-rate", "nan"}, "--retain-rate nan is outside (0, 1]");
    refused({"--retain-rate", ""}, "--retain-rate");
    refused({"--retain-rate", "10%"}, "--retain-rate 10% is not a number");
    refused({"--tsp-rate", "-0.5"}, "--tsp-rate -0.5 is outside (0, 1]");
    refused({"--retain-rate", "0.5", "--tsp-rate", "0.2"}, "above --tsp-rate");
    refused({"--tsp-layer", "3"}, "its layers are 0 to 2");
    refused({"--tsp-layer", "-1"}, "--tsp-layer -1");
    refused({"--tsp-layer", "none"}, "--tsp-layer none");
    refused({"--window", "0"}, "--window 0");
    refused({"--kernel", "6"}, "--kernel 6 is even");
    refused({"--kernel", "0"}, "--kernel 0 is too small; or auto");
    refused({"--pooling", "min"}, "max, avg");
    refused({"--budget", "0"}, "--budget 0");
    refused({"--budget", "64", "--retain-rate", "0.1"}, "--retain-rate");
    refused({"--tsp-len", "64"}, "--budget");
    refused({"--method", "fullkv", "--retain-rate", "0.1"}, "--retain-rate is not used by fullkv");
    refused({"--method", "fullkv", "--window", "8"}, "--window is not used by fullkv");
    refused({"--method", "gemfilter", "--tsp-layer", "1"}, "--tsp-layer is not used by gemfilter");
    refused({"--method", "h2o", "--h2o-mask", "none"}, "there are: causal, reference");
    refused({"--method", "pyramidinfer", "--retain-rate", "0.6"}, "--pyramid-preset");
    refused({"--top-p", "7"}, "--top-p 7 is outside [0, 1]");
    refused({"--min-p", "-1"}, "--min-p");
    refused({"--top-k", "-1"}, "--top-k");
    refused({"--repeat-penalty", "0"}, "--repeat-penalty");
    refused({"--seed", "-2"}, "--seed -2");
}

TEST(BadInput, Files) {
    const std::string m = test::tiny_model_path();
    const std::string gguf = test::read_file(m);
    const std::string cut = test::temporary_path(".gguf");
    test::write_file(cut, gguf.substr(0, gguf.size() / 2));
    const std::string latin1 = text_file("caf\xE9 and more");
    const BadInput cases[] = {
        {{"run", "-m", "/no/such/model.gguf", "-p", "x"}, 1, "/no/such/model.gguf"},
        {{"run", "-m", text_file("not a model"), "-p", "x"}, 1, ".txt"},
        {{"run", "-m", cut, "-p", "x"}, 1, cut},
        {{"run", "-m", test::temporary_folder(), "-p", "x"}, 1, test::temporary_folder()},
        {{"run", "-m", m, "-f", "/no/such/text.txt"}, 1, "/no/such/text.txt: cannot open"},
        {{"run", "-m", m, "-f", test::temporary_folder()}, 1, "is a folder"},
        {{"run", "-m", m, "-f", latin1}, 1, latin1 + " is not valid UTF-8: byte 0xE9 at offset 3"},
        {{"run", "-m", m}, 1, "standard input is not valid UTF-8", "\xC0\x80"},
        {{"run", "-m", m, "-p", "\xF8"}, 1, "-p is not valid UTF-8"},
        {{"run", "-m", m, "-p", "x", "-q", "\xED\xA0\x80"}, 1, "-q is not valid UTF-8"},
        {{"run", "-m", m, "-p", "x", "--trace", "/no/such/folder/t.json"}, 1, "/no/such/folder/t.json: cannot write"},
        {{"run", "-m", m, "-p", "x", "--trace", test::temporary_folder()}, 1, "is a folder"},
    };
    for (const BadInput& bad : cases) expect_refused(bad);
}

TEST(BadInput, Prompts) {
    const std::string m = test::tiny_model_path();
    const BadInput cases[] = {
        {{"run", "-m", m}, 2, "the prompt is empty"},
        {{"run", "-m", m}, 2, "the prompt is empty", " \n\n"},
        {{"run", "-m", m, "-p", ""}, 2, "the prompt is empty"},
        {{"run", "-m", m, "-f", text_file("\n")}, 2, "is empty"},
        {{"run", "-m", m, "--raw", "-f", text_file(words(5000))}, 1, "the context holds 4096"},
        {{"run", "-m", m, "-c", "16", "-p", words(30)}, 1, "the context holds 16: raise -c"},
        {{"run", "-m", m, "--tokens", text_file("[1, 2")}, 1, "is not JSON"},
        {{"run", "-m", m, "--tokens", text_file("7")}, 1, "prompt_tokens"},
        {{"run", "-m", m, "--tokens", text_file("{\"ids\": [1]}")}, 1, "prompt_tokens"},
        {{"run", "-m", m, "--tokens", text_file("[1, 2.5]")}, 1, "element 1 is not a token id"},
        {{"run", "-m", m, "--tokens", text_file("[1, \"a\"]")}, 1, "element 1 is not a token id"},
        {{"run", "-m", m, "--tokens", text_file("[1, 18446744073709551615]")}, 1, "element 1 is not a token id"},
        {{"run", "-m", m, "--tokens", text_file("[1, 320]")},
         1,
         "token 320 at index 1 is outside the vocabulary of 320"},
        {{"run", "-m", m, "--tokens", text_file("[-1]")}, 1, "token -1 at index 0"},
        {{"run", "-m", m, "--tokens", text_file("[]")}, 2, "the prompt is empty"},
    };
    for (const BadInput& bad : cases) expect_refused(bad);
}

// ---- runs ------------------------------------------------------------------------------------------------------

TEST(Run, AllSourcesOfATextAreOne) {
    const std::string text = "What is the answer to this short question?";
    const ProcessResult inline_text = run({"-p", text, "-n", "12"});
    EXPECT_EQ(inline_text.code, 0) << inline_text.err;
    EXPECT_EQ(inline_text.err, "");
    EXPECT_THAT(inline_text.out, EndsWith("\n"));
    ProcessOptions piped;
    piped.input = text + "\n";
    EXPECT_EQ(run({"-n", "12"}, piped).out, inline_text.out);
    EXPECT_EQ(run({"-f", "-", "-n", "12"}, piped).out, inline_text.out);
    EXPECT_EQ(run({"-f", text_file(text + "\n"), "-n", "12"}).out, inline_text.out);
    EXPECT_EQ(run({"-f", text_file("\xEF\xBB\xBF" + text), "-n", "12"}).out, inline_text.out);
}

TEST(Run, TheQuestionFollowsTheDocument) {
    const Json together = run_traced({"-p", "A text.\n\nA question?", "-n", "4"});
    const Json apart = run_traced({"-p", "A text.", "-q", "A question?", "-n", "4"});
    EXPECT_EQ(apart["n_prompt"], together["n_prompt"]);
    EXPECT_EQ(apart["generated"], together["generated"]);
    EXPECT_GT(run_traced({"-p", "A text.", "-n", "4"})["n_prompt"],
              run_traced({"-p", "A text.", "-n", "4", "--raw"})["n_prompt"]);
}

TEST(Run, RawTextIsShownBeforeItsContinuation) {
    const ProcessResult shown = run({"--raw", "-p", "Once upon", "-n", "3"});
    const ProcessResult hidden = run({"--raw", "-p", "Once upon", "-n", "3", "--no-display-prompt"});
    EXPECT_EQ(shown.code, 0) << shown.err;
    EXPECT_EQ(shown.out, "Once upon" + hidden.out);
    EXPECT_THAT(run({"-p", "Once upon", "-n", "3"}).out, Not(StartsWith("Once upon")));
}

TEST(Run, SeedsRepeatAnAnswer) {
    const Arguments common = {"-p", "Tell me something.", "-n", "40", "--temp", "1.5", "--ignore-eos"};
    const auto seeded = [&](const std::string& seed) {
        Arguments arguments = common;
        arguments.insert(arguments.end(), {"-s", seed});
        return run_traced(arguments)["generated"];
    };
    EXPECT_EQ(seeded("7"), seeded("7"));
    EXPECT_NE(seeded("7"), seeded("8"));
    EXPECT_EQ(seeded("7").size(), 40u);
}

TEST(Run, StopsWhereTheContextIsFull) {
    const Json trace = run_traced({"--tokens", token_file(20), "-c", "32", "-n", "-1", "--ignore-eos"});
    // 20 of the prompt and 12 fed back fill the context; the last one sampled needs no place in it
    EXPECT_EQ(trace["generated"].size(), 13u);
    EXPECT_EQ(trace["decode"]["tokens"], 12);
}

TEST(Run, NoTokensIsPrefillOnly) {
    const ProcessResult result = run({"-p", "Only read this.", "-n", "0"});
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(result.out, "");
}

TEST(Run, VerboseTellsWhatHappened) {
    const ProcessResult result = run({"-p", words(100), "-n", "4", "-v"});
    EXPECT_EQ(result.code, 0);
    for (const char* name : {"model", "method", "first token", "prefill", "decode", "cache", "memory"}) {
        EXPECT_THAT(result.err, HasSubstr(std::string("\n") + name));
    }
}

// ---- trace -----------------------------------------------------------------------------------------------------

std::vector<std::string> keys(const Json& object) {
    std::vector<std::string> names;
    for (const auto& [name, value] : object.items()) names.push_back(name);
    return names;
}

TEST(Trace, HasExactlyTheNamesThatToolsRelyOn) {
    const Json trace = run_traced({"--tokens", token_file(200), "-n", "5", "--ignore-eos"});
    EXPECT_THAT(keys(trace),
                ElementsAre("version", "model", "method", "params", "n_prompt", "layers", "propagated", "first_logits",
                            "generated", "text", "margins", "prefill", "decode", "memory"));
    EXPECT_THAT(keys(trace["model"]), ElementsAre("file", "arch", "n_params"));
    EXPECT_THAT(keys(trace["layers"][0]), ElementsAre("layer", "rows", "cached", "kept"));
    EXPECT_THAT(keys(trace["propagated"][0]), ElementsAre("layer", "positions"));
    EXPECT_THAT(keys(trace["first_logits"]), ElementsAre("top", "sum", "l2"));
    EXPECT_THAT(keys(trace["prefill"]), ElementsAre("seconds", "tokens_per_second"));
    EXPECT_THAT(keys(trace["decode"]), ElementsAre("tokens", "seconds", "tokens_per_second"));
    EXPECT_THAT(keys(trace["memory"]), ElementsAre("kv_cache_bytes", "weights_bytes", "peak_rss_bytes"));
    EXPECT_EQ(trace["model"]["file"], test::tiny_model_path());
    EXPECT_EQ(trace["params"]["tsp_layer"], 0);
    EXPECT_EQ(trace["params"]["retain_rate"], 0.1);
    EXPECT_EQ(trace["n_prompt"], 200);
    EXPECT_EQ(trace["generated"].size(), 5u);
    EXPECT_EQ(trace["margins"].size(), 5u);
    for (const double margin : trace["margins"]) EXPECT_GE(margin, 0);
}

TEST(Trace, NamesParametersAsTheFlags) {
    const Json trace = run_traced({"--tokens", token_file(200), "-n", "2", "--method", "snapkv"});
    EXPECT_EQ(trace["params"]["retain_rate"], 0.1);
    EXPECT_EQ(trace["params"]["tsp_layer"], "off");
    EXPECT_EQ(trace["params"]["select_per"], "kv-head");
    EXPECT_EQ(trace["params"]["layer_budget"], "even");
    EXPECT_FALSE(trace["params"].contains("tsp_rate"));
    EXPECT_FALSE(trace["params"].contains("filter_layer"));
}

TEST(Trace, TellsWhatWasKeptAndPropagated) {
    const Json trace = run_traced({"--tokens", token_file(200), "-n", "1"});
    ASSERT_EQ(trace["layers"].size(), 3u);
    const std::vector<int> rows = {200, 40, 40};
    for (size_t layer = 0; layer < 3; ++layer) {
        const Json& report = trace["layers"][layer];
        EXPECT_EQ(report["layer"], layer);
        EXPECT_EQ(report["rows"], rows[layer]);
        EXPECT_EQ(report["cached"], 20);
        ASSERT_EQ(report["kept"].size(), 2u);  // key/value heads
        for (const std::vector<int> kept : report["kept"]) {
            EXPECT_EQ(kept.size(), 20u);
            EXPECT_TRUE(std::ranges::is_sorted(kept));
            EXPECT_EQ(kept.back(), 199);
            EXPECT_EQ(kept[kept.size() - 8], 192);  // the window
        }
    }
    ASSERT_EQ(trace["propagated"].size(), 1u);
    EXPECT_EQ(trace["propagated"][0]["layer"], 0);
    const std::vector<int> positions = trace["propagated"][0]["positions"];
    EXPECT_EQ(positions.size(), 40u);
    EXPECT_TRUE(std::ranges::is_sorted(positions));
    EXPECT_EQ(positions.back(), 199);
}

TEST(Trace, FirstLogitsAreTheBestTwenty) {
    const Json trace = run_traced({"--tokens", token_file(50), "-n", "1"});
    const Json& top = trace["first_logits"]["top"];
    ASSERT_EQ(top.size(), 20u);
    for (size_t i = 1; i < 20; ++i) EXPECT_GE(top[i - 1][1].get<double>(), top[i][1].get<double>());
    EXPECT_EQ(trace["generated"][0], top[0][0]);
    const double margin = top[0][1].get<double>() - top[1][1].get<double>();
    EXPECT_NEAR(trace["margins"][0].get<double>(), margin, 1e-6);
}

TEST(Trace, RetainRateOneKeepsWhatFullKvKeeps) {
    const std::string ids = token_file(120);
    const Json full = run_traced({"--tokens", ids, "-n", "8", "--method", "fullkv"});
    const Json fast = run_traced({"--tokens", ids, "-n", "8", "--retain-rate", "1.0"});
    EXPECT_EQ(full["layers"], fast["layers"]);
    EXPECT_EQ(full["layers"][2]["kept"][1].size(), 120u);
    EXPECT_EQ(full["first_logits"], fast["first_logits"]);
    EXPECT_EQ(full["generated"], fast["generated"]);
    EXPECT_TRUE(fast["propagated"].empty());
}

TEST(Trace, TokensMayComeInAnObject) {
    const Json array = run_traced({"--tokens", text_file("[5, 6, 7]"), "-n", "3"});
    const Json object = run_traced({"--tokens", text_file("{\"prompt_tokens\": [5, 6, 7], \"x\": 1}"), "-n", "3"});
    EXPECT_EQ(array["generated"], object["generated"]);
    EXPECT_EQ(array["n_prompt"], 3);
}

TEST(Trace, ReplacesAFileAndLeavesNothingBeside) {
    const std::string folder = test::new_folder(".dir");
    const std::string trace = folder + "/trace.json";
    test::write_file(trace, "old");
    EXPECT_EQ(run({"-p", "Hello.", "-n", "2", "--trace", trace}).code, 0);
    EXPECT_TRUE(Json::accept(test::read_file(trace)));
    EXPECT_EQ(std::distance(fs::directory_iterator(folder), fs::directory_iterator()), 1);
}

TEST(Trace, AFailedRunLeavesTheOldFile) {
    const std::string trace = text_file("old");
    EXPECT_EQ(run({"-p", "Hello.", "--tsp-layer", "99", "--trace", trace}).code, 2);
    EXPECT_EQ(test::read_file(trace), "old");
}

// ---- terminals, signals, closed streams ------------------------------------------------------------------------

TEST(Terminal, ShowsProgressAndASummary) {
    const ProcessResult result = test::run_on_terminal(
        with_binary({"run", "-m", test::tiny_model_path(), "--tokens", token_file(300), "-n", "3"}));
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_THAT(result.err, HasSubstr("layer 1/3"));
    EXPECT_THAT(result.err, HasSubstr("[fastkv: 300 tokens read"));
    EXPECT_THAT(result.out, Not(HasSubstr("layer")));
}

TEST(Terminal, WithoutOneThereIsNoProgress) {
    const ProcessResult result = run({"--tokens", token_file(300), "-n", "3"});
    EXPECT_EQ(result.code, 0);
    EXPECT_EQ(result.err, "");
}

TEST(Interrupt, DuringThePrefillLeavesNothing) {
    const std::string folder = test::new_folder(".dir");
    const ProcessResult result =
        test::run_on_terminal(with_binary({"run", "-m", long_model_path(), "--method", "fullkv", "--tokens",
                                           token_file(100000), "--trace", folder + "/trace.json"}),
                              [](pid_t pid, const std::string& err) {
                                  if (err.find("layer 1/3") == std::string::npos) return false;
                                  kill(pid, SIGINT);
                                  return true;
                              });
    EXPECT_EQ(result.code, 130) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, HasSubstr("fastkv: interrupted"));
    EXPECT_TRUE(fs::is_empty(folder));
}

TEST(Threads, SpinBrieflyUnlessTheEnvironmentSaysOtherwise) {
    const auto environment_of_run = [](const Arguments& env) {
        std::string seen;
        ProcessOptions options;
        options.watch = [&seen](pid_t pid, const std::string& out) {
            if (out.empty()) return false;
            seen = test::read_file("/proc/" + std::to_string(pid) + "/environ");
            kill(pid, SIGINT);
            return true;
        };
        Arguments arguments = {"/usr/bin/env", "-u", "OMP_WAIT_POLICY"};
        arguments.insert(arguments.end(), env.begin(), env.end());
        arguments.insert(arguments.end(), {FASTKV_COMMAND, "run", "-m", long_model_path(), "-p", "Talk.", "-n", "-1",
                                           "--ignore-eos", "--temp", "2"});
        EXPECT_EQ(test::run_process(arguments, options).code, 130);
        return seen;
    };
    EXPECT_THAT(environment_of_run({}), HasSubstr("GOMP_SPINCOUNT=5000"));
    EXPECT_THAT(environment_of_run({"GOMP_SPINCOUNT=700"}), HasSubstr("GOMP_SPINCOUNT=700"));
    EXPECT_THAT(environment_of_run({"OMP_WAIT_POLICY=passive"}), Not(HasSubstr("GOMP_SPINCOUNT")));
}

TEST(Interrupt, DuringTheAnswerFinishesTheTrace) {
    const std::string trace = test::temporary_path(".json");
    ProcessOptions options;
    options.watch = [](pid_t pid, const std::string& out) {
        if (out.empty()) return false;
        kill(pid, SIGINT);
        return true;
    };
    const ProcessResult result = fastkv({"run", "-m", long_model_path(), "-p", "Talk.", "-n", "-1", "--ignore-eos",
                                         "--temp", "2", "-s", "1", "--trace", trace},
                                        options);
    EXPECT_EQ(result.code, 130) << result.err;
    EXPECT_THAT(result.out, EndsWith("\n"));
    const Json json = Json::parse(test::read_file(trace), nullptr, false);
    ASSERT_FALSE(json.is_discarded());
    EXPECT_GT(json["generated"].size(), 0u);
    EXPECT_EQ(json["generated"].size(), json["margins"].size());
    EXPECT_EQ(json["text"].get<std::string>() + "\n", result.out);
}

TEST(Streams, AClosedOutputIsQuiet) {
    ProcessOptions options;
    options.close_output = true;
    const ProcessResult result = run({"-p", "Hello.", "-n", "5", "--trace", test::temporary_path(".json")}, options);
    EXPECT_EQ(result.code, 0);
    EXPECT_EQ(result.err, "");
}

TEST(Streams, AReaderThatGoesAwayIsQuiet) {
    // The shell's pipe: true ends at once, and the first write finds nobody.
    const std::string command = std::string(FASTKV_COMMAND) + " run -m " + long_model_path() +
                                " -p Talk. -n -1 --ignore-eos --temp 2 -s 1 | true; exit ${PIPESTATUS[0]}";
    const ProcessResult result = test::run_process({"/bin/bash", "-c", command});
    EXPECT_EQ(result.code, 0);
    EXPECT_EQ(result.err, "");
}

TEST(Streams, AFullDiskIsAFailure) {
    if (!fs::exists("/dev/full")) GTEST_SKIP() << "this system has no /dev/full";
    ProcessOptions options;
    options.output_path = "/dev/full";
    const ProcessResult result = run({"-p", "Hello.", "-n", "20", "--ignore-eos"}, options);
    EXPECT_EQ(result.code, 1);
    EXPECT_THAT(result.err, StartsWith("fastkv: error: cannot write the answer"));
}

// ---- inspect ---------------------------------------------------------------------------------------------------

TEST(Inspect, PrintsFactsAndCosts) {
    const ProcessResult result = fastkv({"inspect", "-m", test::tiny_model_path(), "-p", "1000,2000"});
    EXPECT_EQ(result.code, 0) << result.err;
    for (const char* part : {"architecture", "llama", "4,096 tokens", "4 query, 2 key/value, of 16", "fullkv", "fastkv",
                             "100.0 %", "0-2: 1,000 -> 1,000", "0: 1,000 -> 100; 1-2: 200 -> 100",
                             "0: 2,000 -> 200; 1-2: 400 -> 200", "--retain-rate 0.1"}) {
        EXPECT_THAT(result.out, HasSubstr(part));
    }
}

TEST(Inspect, TakesTheMethodsFlags) {
    const ProcessResult result = fastkv({"inspect", "-m", test::tiny_model_path(), "-p", "1000", "--budget", "64",
                                         "--tsp-len", "100", "--tsp-layer", "1"});
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_THAT(result.out, HasSubstr("0-1: 1,000 -> 64; 2: 100 -> 64"));
    EXPECT_EQ(fastkv({"inspect", "-m", test::tiny_model_path(), "--retain-rate", "7"}).code, 2);
}

}  // namespace
}  // namespace fastkv
