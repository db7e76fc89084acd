// fastkv chat: what the model gets to read, scripted conversations, and a person at a terminal.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "cli/conversation.h"
#include "fastkv/fastkv.h"
#include "support/environment.h"
#include "support/process.h"
#include "support/tiny_model.h"

namespace fastkv {
namespace {

using cli::Conversation;
using test::ProcessOptions;
using test::ProcessResult;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Arguments = std::vector<std::string>;

const std::string& model_path() {
    static const std::string path = test::write_tiny_model({.n_ctx = 1 << 20});
    return path;
}

std::string text_file(const std::string& content) {
    const std::string path = test::temporary_path(".txt");
    test::write_file(path, content);
    return path;
}

Arguments chat_command(Arguments arguments, const std::string& model = model_path()) {
    const Arguments front = {FASTKV_COMMAND, "chat", "-m", model, "-t", "1"};
    arguments.insert(arguments.begin(), front.begin(), front.end());
    return arguments;
}

ProcessResult chat(const std::string& input, const Arguments& arguments = {}, const std::string& model = model_path()) {
    ProcessOptions options;
    options.input = input;
    return test::run_process(chat_command(arguments, model), options);
}

// ---- what the model reads ---------------------------------------------------------------------------------------

/// A template that libllama knows by this text.
std::string model_with_template(const std::string& text) {
    return test::write_tiny_model({.arch = "qwen2", .n_layer = 1, .edit_keys = [&](gguf_context* keys) {
                                       gguf_set_val_str(keys, "tokenizer.chat_template", text.c_str());
                                   }});
}

TEST(Conversations, AreReadAsOnePromptOfAll) {
    const Model model = Model::load(test::write_tiny_model({.arch = "qwen2", .n_layer = 1}));
    Conversation conversation(model, "Be brief.", "A document.");
    std::vector<ChatMessage> messages = {{"system", "Be brief."}};
    std::string read;
    const char* questions[] = {"First?", "And then\nthis?", "Last?"};
    for (const char* question : questions) {
        const Conversation::Turn turn = conversation.turn(question);
        EXPECT_EQ(turn.from_start, question == questions[0]);
        read += model.detokenize(turn.tokens, /*special=*/true);
        messages.push_back({"user", question == questions[0] ? "A document.\n\nFirst?" : question});
        EXPECT_EQ(read, model.chat_prompt(messages));
        const std::string answer = " the answer to " + std::string(question);
        const std::vector<Token> tokens = model.tokenize(answer, false, false);
        conversation.add(turn, answer, {tokens.back()});  // which the model did not get back
        messages.push_back({"assistant", answer});
        read += model.detokenize(std::span(tokens).first(tokens.size() - 1));
    }
    EXPECT_EQ(conversation.transcript(),
              "> First?\n the answer to First?\n\n> And then\n> this?\n the answer to And then\nthis?\n\n"
              "> Last?\n the answer to Last?\n\n");
}

TEST(Conversations, BeginAgainWhereTheModelForgot) {
    const Model model = Model::load(model_path());
    Conversation conversation(model, "", "");
    conversation.add(conversation.turn("One?"), "An answer.", {});
    EXPECT_FALSE(conversation.turn("Two?").from_start);
    conversation.forget_read();
    const Conversation::Turn again = conversation.turn("Two?");
    EXPECT_TRUE(again.from_start);
    EXPECT_FALSE(again.rewritten);
    EXPECT_THAT(again.text, HasSubstr("An answer."));
    conversation.clear();
    EXPECT_THAT(conversation.turn("Two?").text, Not(HasSubstr("An answer.")));
}

TEST(Conversations, SurviveAZeroByteInAnAnswer) {
    const Model model = Model::load(model_path());
    Conversation conversation(model, "", "");
    conversation.add(conversation.turn("One?"), std::string("a\0b", 3), {});
    EXPECT_FALSE(conversation.turn("Two?").from_start);
}

// Llama 3's strips the white space around what was said.
TEST(Conversations, GoOnAfterAnswersThatTheTemplateStrips) {
    const Model model = Model::load(model_with_template("<|start_header_id|><|end_header_id|>"));
    Conversation conversation(model, "", "");
    conversation.add(conversation.turn("One?"), " An answer.\n", {});
    const Conversation::Turn turn = conversation.turn("Two?");
    EXPECT_FALSE(turn.from_start);
    EXPECT_THAT(model.detokenize(turn.tokens, true), StartsWith("<|eot_id|>"));
}

TEST(Conversations, NeedATemplate) {
    const std::string file = test::write_tiny_model(
        {.n_layer = 1, .edit_keys = [](gguf_context* keys) { gguf_remove_key(keys, "tokenizer.chat_template"); }});
    const ProcessResult result = chat("Hello?\n", {}, file);
    EXPECT_EQ(result.code, 1);
    EXPECT_THAT(result.err, HasSubstr("no chat template"));
}

// ---- scripts ----------------------------------------------------------------------------------------------------

TEST(Script, AnswersEachQuestionInTurn) {
    const ProcessResult result = chat("First?\n\nSecond\\\nhalf?\n\"\"\"Third\nquestion?\"\"\"\n", {"-n", "5"});
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(result.err, "");
    EXPECT_THAT(result.out, StartsWith("> First?\n"));
    EXPECT_THAT(result.out, HasSubstr("\n\n> Second\n> half?\n"));
    EXPECT_THAT(result.out, HasSubstr("\n\n> Third\n> question?\n"));
    EXPECT_THAT(result.out, EndsWith("\n\n"));
}

TEST(Script, FirstAnswerIsThatOfRun) {
    const std::string document = text_file("A text about the sea and the wind and the stars.\n");
    const Arguments common = {"-f", document, "-n", "20", "--retain-rate", "0.3"};
    Arguments run = {FASTKV_COMMAND, "run", "-m", model_path(), "-t", "1", "-q", "What is it about?"};
    run.insert(run.end(), common.begin(), common.end());
    const ProcessResult one = test::run_process(run);
    EXPECT_EQ(one.code, 0) << one.err;
    const ProcessResult first = chat("What is it about?\n", common);
    EXPECT_EQ(first.out, "> What is it about?\n" + one.out + "\n");
    const ProcessResult cleared = chat("What is it about?\n/clear\nWhat is it about?\n", common);
    EXPECT_EQ(cleared.out, first.out + first.out);
}

TEST(Script, EmptyInputIsNoConversation) {
    EXPECT_EQ(chat("").code, 0);
    EXPECT_EQ(chat("\n  \n/exit\nnever read\n").out, "");
}

TEST(Script, CommandsTellAndSave) {
    const std::string file = test::temporary_path(".txt");
    const ProcessResult result = chat("/stats\nHello?\n/help\n/stats\n/save " + file + "\n", {"-n", "4", "-c", "1000"});
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(test::read_file(file), result.out);
    for (const char* part : {"nothing has been read yet", "/clear", "--score expected", "entries per layer and head",
                             "of 1,000 tokens", "tokens/s"}) {
        EXPECT_THAT(result.err, HasSubstr(part));
    }
    const ProcessResult again = chat("Hello?\n/save " + file + "\n", {"-n", "4"});
    EXPECT_EQ(again.code, 1);
    EXPECT_THAT(again.err, HasSubstr("/save " + file + ": cannot write: File exists"));
}

TEST(Script, RecompressesTheCache) {
    std::string questions;
    for (int i = 0; i < 4; ++i) questions += "Is this question " + std::to_string(i) + " long enough to be cut?\n";
    const auto entries = [&](Arguments arguments) {
        arguments.insert(arguments.end(), {"-n", "1", "--method", "snapkv", "--budget", "60"});
        const ProcessResult result = chat(questions + "/stats\n", arguments);
        EXPECT_EQ(result.code, 0) << result.err;
        return std::stoi(result.err.substr(std::string("cache").size()));
    };
    EXPECT_EQ(entries({"--recompress"}), 60);
    EXPECT_GT(entries({}), 100);
}

TEST(Script, SaysWhereTheContextEnds) {
    const ProcessResult result = chat("Hello?\nAnd then?\n", {"-c", "60", "-n", "-1", "--ignore-eos"});
    EXPECT_EQ(result.code, 1);
    EXPECT_THAT(result.err, HasSubstr("the context of 60 tokens is full: begin a new conversation (/clear)"));
    EXPECT_THAT(result.err, HasSubstr("the context holds 60"));
}

TEST(Script, BadInput) {
    struct BadInput {
        std::string input;
        Arguments arguments;
        int code;
        std::string message;
    };
    const BadInput cases[] = {
        {"", {"-f", "/no/such/file"}, 1, "/no/such/file: cannot open"},
        {"", {"-f", text_file("\n")}, 2, "is empty"},
        {"", {"-f", "-"}, 2, "standard input is for the questions"},
        {"", {"-f", text_file("a"), "-p", "b"}, 2, "one document at a time"},
        {"", {"-n", "0"}, 2, "-n 0 leaves no room"},
        {"", {"-n", "-7"}, 2, "-n -7"},
        {"", {"-sys", "\xFF"}, 1, "-sys is not valid UTF-8"},
        {"", {"--raw"}, 2, "fastkv chat --help"},
        {"", {"--recompress", "--method", "gemfilter"}, 2, "--recompress"},
        {"", {"--recompress", "--method", "fullkv"}, 2, "--recompress: with these parameters fullkv keeps everything"},
        {"", {"--retain-rate", "7"}, 2, "--retain-rate"},
        {"What\xFF?\n", {}, 1, "the question is not valid UTF-8"},
        {std::string("What\0?\n", 7), {}, 1, "zero byte"},
        {"/tmp is what?\n", {}, 2, "/tmp is no command"},
        {"/save\n", {}, 2, "/save needs the name"},
        {"/save x\n", {}, 2, "nothing has been said"},
        {"\"\"\"no end\n", {}, 2, "standard input ended inside \"\"\""},
        {"Hello there?\n", {"-c", "10"}, 1, "the context holds 10"},
    };
    for (const BadInput& bad : cases) {
        SCOPED_TRACE(bad.message);
        const ProcessResult result = chat(bad.input, bad.arguments);
        EXPECT_EQ(result.code, bad.code) << result.err;
        EXPECT_THAT(result.err, StartsWith("fastkv: error: "));
        EXPECT_THAT(result.err, HasSubstr(bad.message));
        EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1);
    }
}

TEST(Script, InterruptEndsIt) {
    ProcessOptions options;
    options.input = "Talk.\nAgain.\n";
    options.watch = [](pid_t pid, const std::string& out) {
        if (out.size() < 20) return false;
        kill(pid, SIGINT);
        return true;
    };
    const ProcessResult result =
        test::run_process(chat_command({"-n", "-1", "--ignore-eos", "--temp", "2", "-s", "1"}), options);
    EXPECT_EQ(result.code, 130) << result.err;
    EXPECT_THAT(result.out, StartsWith("> Talk.\n"));
    EXPECT_THAT(result.out, Not(HasSubstr("Again")));
}

// ---- a person ---------------------------------------------------------------------------------------------------

TEST(Person, IsPromptedAndMayErr) {
    const std::string missing = test::temporary_path(".dir") + "/x";
    const ProcessResult result =
        test::run_on_terminal(chat_command({"-n", "3"}), {},
                              {"Hello?\n", "/nonsense\n", "/save " + missing + "\n", "What\xFF?\n", "More?\n", "\x04"});
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_THAT(result.err, HasSubstr("/help explains"));
    EXPECT_THAT(result.err, HasSubstr("/nonsense is no command"));
    EXPECT_THAT(result.err, HasSubstr("cannot write: No such file"));
    EXPECT_THAT(result.err, HasSubstr("is not valid UTF-8"));
    EXPECT_THAT(result.out, Not(HasSubstr("> ")));  // the prompt is on the terminal
    EXPECT_THAT(result.out, EndsWith("\n\n"));
}

TEST(Person, StopsAnAnswerAndGoesOn) {
    bool stopped = false;
    const auto stop = [&](pid_t pid, const std::string& err) {
        if (err.find("Talk.") == std::string::npos) return false;
        usleep(300000);
        kill(pid, SIGINT);
        return stopped = true;
    };
    const ProcessResult result = test::run_on_terminal(
        chat_command({"-n", "-1", "--ignore-eos", "--temp", "2", "-s", "1"}), stop, {"Talk.\n", "/stats\n", "/exit\n"});
    EXPECT_TRUE(stopped);
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_THAT(result.err, HasSubstr("entries per layer and head"));
}

TEST(Person, LeavesAtThePrompt) { EXPECT_EQ(test::run_on_terminal(chat_command({}), {}, {"\x03"}).code, 128 + SIGINT); }

// ---- a real model -----------------------------------------------------------------------------------------------

TEST(SmolLm2, RemembersTheFirstTurn) {
    const auto model = test::test_model();
    FASTKV_NEED("FASTKV_TEST_MODEL", model);
    const ProcessResult result =
        chat("My name is Alice and I live in Oslo.\nWhere do I live?\n", {"--method", "fullkv", "-n", "40"}, *model);
    EXPECT_EQ(result.code, 0) << result.err;
    const size_t second = result.out.find("> Where");
    ASSERT_NE(second, std::string::npos);
    EXPECT_THAT(result.out.substr(second), HasSubstr("Oslo"));
    const ProcessResult unasked = chat("Where do I live?\n", {"--method", "fullkv", "-n", "40"}, *model);
    EXPECT_THAT(unasked.out, Not(HasSubstr("Oslo")));
}

}  // namespace
}  // namespace fastkv
