// fastkv eval as a command: what it leaves, how it goes on, what it refuses.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "cli/method_list.h"
#include "eval/row.h"
#include "fastkv/error.h"
#include "support/process.h"
#include "support/tiny_model.h"

namespace fastkv {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;
using Arguments = std::vector<std::string>;

const std::string& model() {
    static const std::string path = test::write_tiny_model({.n_layer = 4});
    return path;
}

// A folder of two short texts.
const std::string& texts() {
    static const std::string folder = [] {
        const std::string path = test::temporary_path(".texts");
        fs::create_directories(path);
        test::write_file(path + "/b.txt", "The second text. It is short.\n");
        test::write_file(path + "/a.txt", "The first text. It is not much longer than the other one.\n");
        test::write_file(path + "/notes.md", "No text of it.\n");
        return path;
    }();
    return folder;
}

Arguments command(const std::string& evaluation, const std::string& folder, const Arguments& more) {
    Arguments arguments = {FASTKV_COMMAND, "eval", evaluation, "-m", model(), "-t", "1", "-o", folder};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
}

const Arguments small_needle = {"--data", texts(), "--lengths", "600,800", "--depths", "0,50,100"};

test::ProcessResult needle(const std::string& folder, Arguments more = {}) {
    more.insert(more.begin(), small_needle.begin(), small_needle.end());
    return test::run_process(command("needle", folder, more));
}

std::vector<eval::Row> rows_in(const std::string& folder) {
    return eval::rows_of(test::read_file(folder + "/samples.jsonl"), "samples.jsonl");
}

Json summary_in(const std::string& folder) { return Json::parse(test::read_file(folder + "/summary.json")); }

// What a run says but for the time that it took.
Json without_times(Json summary) {
    summary.erase("runs");
    for (Json& table : summary["tables"]) {
        for (Json& setting : table["settings"]) setting.erase("prefill_seconds"), setting.erase("decode_seconds");
    }
    return summary;
}

std::string new_folder() { return test::temporary_path(".results"); }

// ---- results -------------------------------------------------------------------------------------------------------

TEST(EvalCommand, LeavesRowsSummaryAndPictures) {
    const std::string folder = new_folder();
    const auto result = needle(folder, {"--methods", "fullkv,fastkv", "--retain-rate", "0.1,0.2"});
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_THAT(result.out, HasSubstr("| fastkv --retain-rate 0.2"));
    const auto rows = rows_in(folder);
    EXPECT_EQ(rows.size(), 18u);  // 2 lengths, 3 depths, 3 settings
    std::set<std::string> keys;
    for (const eval::Row& row : rows) {
        EXPECT_TRUE(keys.insert(row.key()).second) << row.key();
        EXPECT_FALSE(row.failed()) << row.error;
        EXPECT_GT(row.n_prompt, row.length - 20);
        EXPECT_LE(row.n_prompt, row.length + 3);
        EXPECT_GT(row.kv_cache_bytes, 0u);
    }
    const Json summary = summary_in(folder);
    EXPECT_EQ(summary["evaluation"], "needle");
    EXPECT_EQ(summary["n_samples"], 18);
    EXPECT_EQ(summary["n_failed"], 0);
    EXPECT_EQ(summary["settings"]["protocol"], "chat");
    EXPECT_EQ(summary["settings"]["model_hash"].get<std::string>().size(), 16u);
    ASSERT_EQ(summary["runs"].size(), 1u);
    EXPECT_THAT(summary["runs"][0]["command"].get<std::string>(), HasSubstr("eval needle -m "));
    EXPECT_EQ(summary["runs"][0]["methods"].size(), 3u);
    EXPECT_TRUE(summary["runs"][0].contains("version"));
    EXPECT_TRUE(summary["runs"][0]["machine"].contains("cpu"));
    EXPECT_THAT(test::read_file(folder + "/heat-map-fullkv.svg"), HasSubstr("fullkv: mean 0."));
    EXPECT_TRUE(fs::exists(folder + "/heat-map-fastkv-retain-rate-0.2.svg"));
    EXPECT_EQ(Json::parse(test::read_file(folder + "/cells.json")).size(), 18u);
}

TEST(EvalCommand, GoesOnWhereItWasCutOff) {
    const std::string folder = new_folder();
    ASSERT_EQ(needle(folder).code, 0);
    const std::string whole = test::read_file(folder + "/samples.jsonl");
    const Json summary = summary_in(folder);
    // As a crash leaves it: half a line at the end.
    const size_t third = whole.find('\n', whole.find('\n', whole.find('\n') + 1) + 1) + 1;
    test::write_file(folder + "/samples.jsonl", whole.substr(0, third + 50));
    const auto again = needle(folder);
    ASSERT_EQ(again.code, 0) << again.err;
    EXPECT_THAT(again.err, HasSubstr("has 3 answers already"));
    EXPECT_EQ(test::read_file(folder + "/samples.jsonl").substr(0, third), whole.substr(0, third)) << "asked again";
    EXPECT_EQ(rows_in(folder).size(), 12u);
    EXPECT_EQ(without_times(summary_in(folder)), without_times(summary));
    EXPECT_EQ(summary_in(folder)["runs"].size(), 2u);
    // All is there: nothing is asked, nothing changes.
    const std::string all = test::read_file(folder + "/samples.jsonl");
    ASSERT_EQ(needle(folder).code, 0);
    EXPECT_EQ(test::read_file(folder + "/samples.jsonl"), all);
    EXPECT_EQ(summary_in(folder)["runs"].size(), 2u);
}

TEST(EvalCommand, AddsMethodsAndCells) {
    const std::string folder = new_folder();
    ASSERT_EQ(needle(folder, {"--methods", "fullkv", "--limit", "2"}).code, 0);
    EXPECT_EQ(rows_in(folder).size(), 2u);
    ASSERT_EQ(needle(folder, {"--methods", "streamingllm"}).code, 0);
    EXPECT_EQ(rows_in(folder).size(), 8u);
    EXPECT_EQ(summary_in(folder)["tables"][0]["settings"].size(), 2u);
}

TEST(EvalCommand, AsksOnceWhatIsListedTwice) {
    const std::string folder = new_folder();
    const auto result = test::run_process(command(
        "needle", folder,
        {"--data", texts(), "--lengths", "600,600", "--depths", "0,0,50", "--methods", "fullkv,fullkv,fastkv,fastkv"}));
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(rows_in(folder).size(), 4u);  // 2 depths, 2 methods
}

TEST(EvalCommand, InterruptedLosesNothing) {
    const std::string folder = new_folder();
    test::ProcessOptions options;
    options.watch = [&](pid_t pid, const std::string&) {
        if (!fs::exists(folder + "/samples.jsonl") || fs::file_size(folder + "/samples.jsonl") == 0) return false;
        kill(pid, SIGINT);
        return true;
    };
    const Arguments many = {"--data", texts(), "--lengths", "3000", "--depths", "101"};
    const auto result = test::run_process(command("needle", folder, many), options);
    EXPECT_EQ(result.code, 130) << result.err;
    EXPECT_THAT(result.err, HasSubstr("the same command goes on"));
    const auto some = rows_in(folder);
    EXPECT_GE(some.size(), 1u);
    EXPECT_LT(some.size(), 202u);
    EXPECT_EQ(summary_in(folder)["n_samples"], some.size());
    Arguments few = many;
    few.insert(few.end(), {"--limit", std::to_string(some.size() / 2 + 1)});
    const auto again = test::run_process(command("needle", folder, few));
    EXPECT_EQ(again.code, 0) << again.err;
    std::set<std::string> keys;
    for (const eval::Row& row : rows_in(folder)) EXPECT_TRUE(keys.insert(row.key()).second) << row.key();
    EXPECT_EQ(keys.size(), 2 * (some.size() / 2 + 1));
}

TEST(EvalCommand, RetriesWhatFailedIfAsked) {
    const std::string folder = new_folder();
    ASSERT_EQ(needle(folder, {"--methods", "fullkv", "--limit", "2"}).code, 0);
    auto rows = rows_in(folder);
    rows[0].error = "not enough memory";
    test::write_file(folder + "/samples.jsonl", eval::row_json(rows[0]) + "\n" + eval::row_json(rows[1]) + "\n");
    const auto kept = needle(folder, {"--methods", "fullkv", "--limit", "2"});
    EXPECT_EQ(kept.code, 1);
    EXPECT_THAT(kept.err,
                HasSubstr("1 of 2 samples failed, the first (length_600_depth_0, fullkv): not enough memory"));
    EXPECT_THAT(kept.out, HasSubstr("1 failed"));
    EXPECT_EQ(summary_in(folder)["n_failed"], 1);
    ASSERT_EQ(needle(folder, {"--methods", "fullkv", "--limit", "2", "--retry-failed"}).code, 0);
    EXPECT_EQ(rows_in(folder).size(), 2u);
    EXPECT_EQ(summary_in(folder)["n_failed"], 0);
}

// ---- refusals ------------------------------------------------------------------------------------------------------

TEST(EvalCommand, RefusesAFolderMadeWithOtherSettings) {
    const std::string folder = new_folder();
    ASSERT_EQ(needle(folder, {"--methods", "fullkv", "--limit", "1"}).code, 0);
    const std::string before = test::read_file(folder + "/samples.jsonl");
    const auto protocol = needle(folder, {"--protocol", "reference"});
    EXPECT_EQ(protocol.code, 2);
    EXPECT_THAT(protocol.err, HasSubstr("protocol is \"chat\" there and \"reference\" here"));
    EXPECT_THAT(needle(folder, {"--compute", "f32"}).err, HasSubstr("other settings: compute is"));
    EXPECT_THAT(needle(folder, {"-ctk", "f32"}).err, HasSubstr("other settings: cache_type_k is"));
    EXPECT_EQ(test::read_file(folder + "/samples.jsonl"), before);
}

TEST(EvalCommand, RefusesFoldersThatAreNotItsOwn) {
    const auto other = needle(texts());
    EXPECT_EQ(other.code, 2);
    EXPECT_THAT(other.err, HasSubstr("is not empty and holds no results"));
    EXPECT_EQ(needle(texts() + "/a.txt").code, 1);
    const std::string busy = new_folder();
    fs::create_directories(busy);
    const int fd = open(busy.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ASSERT_EQ(flock(fd, LOCK_EX), 0);
    EXPECT_THAT(needle(busy).err, HasSubstr("another fastkv is at work in it"));
    close(fd);
}

TEST(EvalCommand, BeginsAgainWhereARunEndedBeforeItsFirstLine) {
    const std::string folder = new_folder();
    fs::create_directories(folder);
    test::write_file(folder + "/samples.jsonl", "");
    ASSERT_EQ(needle(folder, {"--methods", "fullkv", "--limit", "1"}).code, 0);
    EXPECT_EQ(rows_in(folder).size(), 1u);
}

TEST(EvalCommand, NamesABrokenLineOfItsResults) {
    const std::string folder = new_folder();
    ASSERT_EQ(needle(folder, {"--methods", "fullkv", "--limit", "2"}).code, 0);
    test::write_file(folder + "/samples.jsonl", "{\"id\": 1}\n" + test::read_file(folder + "/samples.jsonl"));
    const auto result = needle(folder);
    EXPECT_EQ(result.code, 1);
    EXPECT_THAT(result.err, HasSubstr("samples.jsonl: line 1 is no result"));
}

TEST(EvalCommand, RefusesWhatCannotBeAsked) {
    const auto refusal = [](const std::string& evaluation, const Arguments& more, int code) {
        const std::string folder = new_folder();
        const auto result = test::run_process(command(evaluation, folder, more));
        EXPECT_EQ(result.code, code) << result.err;
        EXPECT_FALSE(fs::exists(folder)) << "left a folder behind";
        return result.err;
    };
    EXPECT_THAT(refusal("needle", {"--data", texts(), "--lengths", "4090"}, 2),
                HasSubstr("beyond the context of 4096"));
    EXPECT_THAT(refusal("needle", {"--data", texts(), "--depths", "50,101"}, 2),
                HasSubstr("--depths 101 is too large: at most 100"));
    EXPECT_THAT(refusal("needle", {"--data", texts() + "/none"}, 1), HasSubstr("/none"));
    EXPECT_THAT(refusal("needle", {"--data", texts(), "--methods", "fullkv", "--window", "4"}, 2),
                HasSubstr("--window is not used by fullkv"));
    EXPECT_THAT(refusal("ruler", {"--essays", texts(), "--lengths", "9000"}, 2),
                HasSubstr("beyond the context of 4096"));
    EXPECT_THAT(refusal("ruler", {"--essays", texts(), "--tasks", "niah"}, 2), HasSubstr("niah is no task of RULER"));
    EXPECT_THAT(refusal("ruler", {"--essays", texts(), "--tasks", "qa_1"}, 2), HasSubstr("--squad FILE"));
    EXPECT_THAT(refusal("ruler", {"--essays", texts(), "--tasks", "vt", "--lengths", "100"}, 2),
                HasSubstr("vt of 100 tokens, 64 of them for the answer: too short"));
    EXPECT_THAT(refusal("ruler", {"--essays", texts() + "/none"}, 1), HasSubstr("/none"));
    const std::string empty = test::temporary_path(".empty");
    fs::create_directories(empty);
    EXPECT_THAT(refusal("ruler", {"--essays", empty}, 1), HasSubstr("--essays " + empty + " has no .txt files"));
    EXPECT_THAT(refusal("ruler", {"--data", texts()}, 1), HasSubstr("has no .jsonl files"));
    EXPECT_THAT(refusal("ruler", {"--data", "x", "--seed", "1"}, 2), HasSubstr("--seed is not used with --data"));
}

TEST(EvalCommand, SaysHowToGetTheEssays) {
    setenv("XDG_CACHE_HOME", texts().c_str(), 1);
    const auto result = test::run_process(command("needle", new_folder(), {}));
    unsetenv("XDG_CACHE_HOME");
    EXPECT_EQ(result.code, 1);
    EXPECT_THAT(result.err, HasSubstr("fetch_data.py haystack " + texts() + "/fastkv/haystack"));
}

// ---- ruler ---------------------------------------------------------------------------------------------------------

TEST(EvalCommand, AsksRulersTasks) {
    const std::string folder = new_folder();
    const auto result =
        test::run_process(command("ruler", folder,
                                  {"--essays", texts(), "--lengths", "1500", "--tasks", "niah_single_1,niah_multikey_2",
                                   "--limit", "2", "--methods", "fullkv,gemfilter"}));
    ASSERT_EQ(result.code, 0) << result.err;
    const auto rows = rows_in(folder);
    ASSERT_EQ(rows.size(), 8u);
    for (const eval::Row& row : rows) EXPECT_LE(row.n_prompt, 1500 - 128);
    EXPECT_THAT(result.out, HasSubstr("1500 tokens\n"));
    EXPECT_THAT(result.out, HasSubstr("niah_multikey_2"));
}

TEST(EvalCommand, ReadsRulersFiles) {
    const std::string data = test::temporary_path(".ruler"), folder = new_folder();
    fs::create_directories(data + "/4096");
    const std::string row = "{\"index\": 0, \"input\": \"Remember 17. What was it? It was\", \"outputs\": [\"17\"]}\n";
    test::write_file(data + "/4096/vt.jsonl", row + row + row);
    test::write_file(data + "/4096/cwe.jsonl", row);
    const auto run = [&](const Arguments& more) {
        Arguments arguments = {"--data", data, "--methods", "fullkv"};
        arguments.insert(arguments.end(), more.begin(), more.end());
        return test::run_process(command("ruler", folder, arguments));
    };
    const auto result = run({"--tokens-to-generate", "reference", "--limit", "2"});
    ASSERT_EQ(result.code, 0) << result.err;
    std::vector<std::string> ids;
    for (const eval::Row& one : rows_in(folder)) ids.push_back(one.id);
    EXPECT_THAT(ids, ElementsAre("cwe/4096/0", "vt/4096/0", "vt/4096/1"));
    EXPECT_THAT(run({"--limit", "2"}).err, HasSubstr("tokens_to_generate is \"reference\" there"));
    test::write_file(data + "/4096/vt.jsonl", row + "{\"input\": \n");
    EXPECT_THAT(run({}).err, HasSubstr("4096/vt.jsonl: line 2 is not a JSON object"));
    test::write_file(data + "/4096/other.jsonl", row);
    EXPECT_THAT(run({}).err, HasSubstr("4096/other.jsonl: other is no task of RULER"));
    fs::create_directories(data + "/b");
    test::write_file(data + "/b/cwe.jsonl", row);
    EXPECT_EQ(run({"--tasks", "cwe"}).code, 2) << "of other files, but of two lengths";
    fs::remove(data + "/4096/other.jsonl");
    fs::create_directories(data + "/a");
    test::write_file(data + "/a/cwe.jsonl", row);
    EXPECT_THAT(run({"--tasks", "cwe"}).err, HasSubstr("b/cwe.jsonl is a second file of cwe"));
}

TEST(EvalCommand, KeepsARowOfWhatFailed) {
    const std::string data = test::temporary_path(".ruler"), folder = new_folder();
    fs::create_directories(data);
    test::write_file(data + "/vt.jsonl", "{\"input\": \"Who?\", \"outputs\": [\"she\"]}\n");
    // The answer's 30 tokens leave two for a prompt whose template has more.
    const auto result =
        test::run_process(command("ruler", folder, {"--data", data, "--methods", "fullkv", "-c", "32"}));
    EXPECT_EQ(result.code, 1);
    EXPECT_THAT(result.err, HasSubstr("1 of 1 samples failed"));
    const auto rows = rows_in(folder);
    ASSERT_EQ(rows.size(), 1u);
    EXPECT_THAT(rows[0].error, HasSubstr("no room for a message"));
    EXPECT_EQ(summary_in(folder)["n_failed"], 1);
    EXPECT_FALSE(summary_in(folder)["tables"][0]["settings"][0]["cells"][0].contains("score"));
    EXPECT_THAT(result.out, HasSubstr("1 failed"));
    EXPECT_THAT(result.out, Not(HasSubstr("0.0"))) << "of what was not measured";
}

// ---- methods -------------------------------------------------------------------------------------------------------

std::vector<std::string> listed(const std::string& methods,
                                const std::vector<std::pair<std::string, std::vector<std::string>>>& shared) {
    std::vector<std::string> texts_of;
    for (const MethodParams& params : cli::method_list({methods, shared})) texts_of.push_back(method_text(params));
    return texts_of;
}

TEST(MethodList, GivesParametersToThoseThatKnowThem) {
    EXPECT_THAT(listed("fullkv,fastkv:tsp_layer=14,gemfilter", {{"retain_rate", {"0.1", "0.2"}}, {"window", {"4"}}}),
                ElementsAre("fullkv", "fastkv --retain-rate 0.1 --tsp-layer 14 --window 4",
                            "fastkv --retain-rate 0.2 --tsp-layer 14 --window 4", "gemfilter --retain-rate 0.1",
                            "gemfilter --retain-rate 0.2"));
    EXPECT_THAT(listed("fastkv:retain-rate=0.3,snapkv", {{"retain_rate", {"0.1"}}}),
                ElementsAre("fastkv --retain-rate 0.3", "snapkv --retain-rate 0.1"));
    EXPECT_EQ(listed("all", {}).size(), list_methods().size());
}

TEST(MethodList, RefusesWhatNobodyKnows) {
    EXPECT_THROW(listed("fullkv", {{"retain_rate", {"0.1"}}}), Error);
    EXPECT_THROW(listed("fastkw", {}), Error);
    EXPECT_THROW(listed("fastkv:rate=1", {}), Error);
    EXPECT_THROW(listed("fastkv:window", {}), Error);
    EXPECT_THROW(listed("", {}), Error);
}

}  // namespace
}  // namespace fastkv
