// Stored sessions of fastkv serve: conversations, repeated prompts and documents are not read again, memory is bounded,
// and files survive whatever happens to the server.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <random>
#include <thread>

#include "support/compare.h"
#include "support/file_size_limit.h"
#include "support/process.h"
#include "support/tiny_server.h"
#include "text/utf8.h"

namespace fastkv {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using server::Server;
using server::ServerParams;
using test::ask;
using test::HttpReply;
using test::request_text;
using test::served_model;
using ::testing::HasSubstr;

std::vector<Token> some_tokens(int n, uint32_t seed = 1) {
    return test::random_tokens(served_model().hparams().n_vocab, n, seed);
}

std::vector<Token> operator+(std::vector<Token> a, const std::vector<Token>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

ServerParams params_with(const server::StoreParams& store) {
    ServerParams params = test::server_params();
    params.store = store;
    return params;
}

/// A server and what tests ask of it.
class Client {
  public:
    explicit Client(const server::StoreParams& store = {}) : server_(served_model(), params_with(store)) {}

    HttpReply post(const std::string& path, const json& body) {
        return ask(server_.port(), request_text("POST", path, body.dump()));
    }
    json complete(json body) {
        body["ignore_eos"] = true;
        const HttpReply reply = post(body.contains("messages") ? "/v1/chat/completions" : "/v1/completions", body);
        EXPECT_EQ(reply.status, 200) << reply.body;
        return reply.json();
    }
    json complete(const std::vector<Token>& prompt, const std::string& method = "fastkv") {
        return complete({{"prompt", prompt}, {"max_tokens", 12}, {"fastkv", {{"method", method}}}});
    }
    double metric(const std::string& name) { return test::metric(server_.port(), name); }

  private:
    Server server_;
};

int cached(const json& reply) { return reply["usage"]["prompt_tokens_details"]["cached_tokens"]; }

std::string text_of(const json& reply) { return reply["choices"][0]["text"]; }

/// The next `n` tokens of a session that has read its prompt; all but the last are decoded, as a server does.
std::vector<Token> answer(Session& session, int n) {
    std::vector<Token> tokens;
    for (int i = 0; i < n; ++i) {
        if (i > 0) session.decode(tokens.back());
        std::vector<float> logits(session.logits().begin(), session.logits().end());
        for (Token t = 0; t < served_model().hparams().n_vocab; ++t) {
            if (served_model().is_end_of_generation(t)) logits[size_t(t)] = -INFINITY;  // ignore_eos
        }
        tokens.push_back(test::best(logits));
    }
    return tokens;
}

std::string as_text(const std::vector<Token>& tokens) {
    text::Utf8Stream utf8;
    std::string text;
    for (const Token token : tokens) text += utf8.push(served_model().piece(token));
    return text + utf8.finish();
}

const char* const methods[] = {"fullkv", "fastkv", "snapkv", "h2o", "streamingllm", "gemfilter", "pyramidinfer"};

// ---- what is not read again -------------------------------------------------------------------------------------

TEST(Sessions, AConversationGoesOnFromItsCache) {
    Client client;
    for (const char* method : methods) {
        const auto prompt = some_tokens(300, 1);
        Session session(served_model(), {.method = method});
        session.prefill(prompt);
        const std::vector<Token> first = answer(session, 12);
        EXPECT_EQ(text_of(client.complete(prompt, method)), as_text(first)) << method;

        const auto next = prompt + first + some_tokens(30, 2);
        session.extend(std::span(next).subspan(311));
        const json reply = client.complete(next, method);
        EXPECT_EQ(cached(reply), 311) << method;
        EXPECT_EQ(reply["usage"]["prompt_tokens"], 342);
        EXPECT_EQ(reply["timings"]["cache_n"], 311);
        EXPECT_EQ(reply["timings"]["prompt_n"], 31);
        for (int layer = 0; layer < served_model().hparams().n_layer; ++layer) {
            EXPECT_LE(session.n_cached(layer, 0), int(reply["usage"]["kept_tokens"]["max"])) << method;
            EXPECT_GE(session.n_cached(layer, 0), int(reply["usage"]["kept_tokens"]["min"])) << method;
        }
        EXPECT_EQ(text_of(reply), as_text(answer(session, 12))) << method;
    }
}

TEST(Sessions, ARepeatedPromptIsNotReadAgain) {
    Client client;
    for (const char* method : methods) {
        const json first = client.complete(some_tokens(200), method);
        const json second = client.complete(some_tokens(200), method);
        EXPECT_EQ(cached(first), 0) << method;
        EXPECT_EQ(cached(second), 200) << method;
        EXPECT_EQ(text_of(first), text_of(second)) << method;
        EXPECT_EQ(first["usage"]["kept_tokens"], second["usage"]["kept_tokens"]);
    }
}

// An answer that was written differently than it was sampled: what both have in common is used.
TEST(Sessions, AnotherContinuationGoesBackToWhereTheyPart) {
    Client client;
    const auto prompt = some_tokens(200);
    client.complete(prompt);
    Session session(served_model(), {});
    session.prefill(prompt);
    const auto other = some_tokens(20, 7);
    session.extend(other);
    const json reply = client.complete(prompt + other);
    EXPECT_GE(cached(reply), 200);
    EXPECT_LT(cached(reply), 212);
    EXPECT_EQ(text_of(reply), as_text(answer(session, 12)));
}

TEST(Sessions, OnlyTheSameMethodGoesOn) {
    Client client;
    const auto prompt = some_tokens(200);
    const auto cached_with = [&](const json& fastkv) {
        return cached(client.complete({{"prompt", prompt}, {"max_tokens", 4}, {"fastkv", fastkv}}));
    };
    EXPECT_EQ(cached_with({{"method", "snapkv"}}), 0);
    EXPECT_EQ(cached_with({{"method", "snapkv"}, {"retain_rate", 0.3}}), 0);
    EXPECT_EQ(cached_with({{"method", "h2o"}}), 0);
    EXPECT_EQ(cached_with({{"method", "snapkv"}}), 200);
    EXPECT_EQ(cached_with({{"method", "snapkv"}, {"retain_rate", 0.1}}), 200);  // the default, said
}

TEST(Sessions, ARequestCanSwitchThemOff) {
    Client client;
    const auto prompt = some_tokens(200);
    client.complete({{"prompt", prompt}, {"max_tokens", 4}, {"cache_prompt", false}});
    EXPECT_EQ(client.metric("sessions"), 0);
    client.complete(prompt);
    EXPECT_EQ(cached(client.complete({{"prompt", prompt}, {"fastkv", {{"reuse", false}}}})), 0);
    EXPECT_EQ(cached(client.complete({{"prompt", prompt}, {"cache_prompt", false}})), 0);
    EXPECT_EQ(cached(client.complete(prompt)), 200);
    EXPECT_EQ(client.post("/v1/completions", {{"prompt", "a"}, {"fastkv", {{"reuse", 1}}}}).status, 400);
    Client none({.memory_bytes = 0});
    none.complete(prompt);
    EXPECT_EQ(cached(none.complete(prompt)), 0);
}

// The beginning of a text that goes on at length must not keep it from being compressed.
TEST(Sessions, ALongRestIsReadAnewUnlessEverythingIsCached) {
    Client client;
    const auto beginning = some_tokens(100), rest = some_tokens(400, 2);
    for (const char* method : {"fullkv", "snapkv"}) {
        client.complete(beginning, method);
        const json reply = client.complete(beginning + rest, method);
        EXPECT_EQ(cached(reply), std::string(method) == "fullkv" ? 100 : 0) << method;
    }
    // a short session holds all that it has read, but the method would not hold all of this prompt
    const auto system = some_tokens(15, 3);
    EXPECT_EQ(client.complete(system, "snapkv")["usage"]["kept_tokens"]["min"], 15);
    const json compressed = client.complete(system + some_tokens(400, 4), "snapkv");
    EXPECT_EQ(cached(compressed), 0);
    EXPECT_LT(compressed["usage"]["kept_tokens"]["max"], 100);
    // a full cache also goes back into a prompt, to what two have in common
    EXPECT_EQ(cached(client.complete(beginning + some_tokens(50, 9), "fullkv")), 100);
    EXPECT_EQ(cached(client.complete(beginning + rest, "fullkv")), 500);
}

TEST(Sessions, QuestionsOnADocumentReadItOnce) {
    Client client;
    std::string document;
    for (int i = 0; i < 40; ++i) document += "Line " + std::to_string(i) + " of the report says nothing. ";
    const auto chat = [&](const std::string& question) {
        return json::array({{{"role", "user"}, {"content", document}}, {{"role", "user"}, {"content", question}}});
    };
    const auto ask_about = [&](const std::string& question, const std::string& id) {
        return client.complete({{"messages", chat(question)}, {"max_tokens", 6}, {"fastkv", {{"document_id", id}}}});
    };
    const json first = ask_about("Who wrote it?", "report");
    EXPECT_EQ(cached(first), 0);
    EXPECT_EQ(first["fastkv"]["score"], "expected");
    const json second = ask_about("What does line 7 say?", "report");
    EXPECT_GT(cached(second), int(document.size()) / 8);
    EXPECT_EQ(cached(ask_about("What does line 7 say?", "another name")), 0);
    // as the engine does it
    const std::vector<ChatMessage> messages = {{"user", document}, {"user", "What does line 7 say?"}};
    const auto prompt = served_model().tokenize(served_model().chat_prompt(messages), true, true);
    const auto before =
        served_model().tokenize(served_model().chat_prompt(std::span(messages).first(1), false), true, true);
    Session session(served_model(), {.method = "fastkv", .score = ScoreBy::expected});
    session.prefill(before);
    session.extend(std::span(prompt).subspan(before.size()));
    EXPECT_EQ(second["choices"][0]["message"]["content"], as_text(answer(session, 6)));

    const json alone = {{"messages", {{{"role", "user"}, {"content", "x"}}}}, {"fastkv", {{"document_id", "d"}}}};
    EXPECT_EQ(client.post("/v1/chat/completions", alone).status, 400);
    EXPECT_EQ(client.post("/v1/completions", {{"prompt", "x"}, {"fastkv", {{"document_id", "d"}}}}).status, 400);
}

// ---- memory and files -------------------------------------------------------------------------------------------

/// Waits until memory is within the budget; a server that never gets there fails the test.
void await_memory(Client& client, double most) {
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (client.metric("sessions_memory_bytes") > most) {
        ASSERT_LT(std::chrono::steady_clock::now(), limit);
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
}

TEST(Sessions, TheOldestLeaveMemoryWhereTheBudgetEnds) {
    Client client({.memory_bytes = 400 << 10});
    for (uint32_t i = 0; i < 8; ++i) client.complete(some_tokens(500, i), "fullkv");  // about 200 KiB each
    EXPECT_LE(client.metric("sessions_memory_bytes"), 400 << 10);
    EXPECT_GE(client.metric("sessions"), 1);
    EXPECT_EQ(cached(client.complete(some_tokens(500, 7), "fullkv")), 500);
    EXPECT_EQ(cached(client.complete(some_tokens(500, 0), "fullkv")), 0);
}

TEST(Sessions, WithAFolderTheyLeaveForFilesAndComeBack) {
    const std::string folder = test::new_folder(".sessions");
    {
        Client client({.memory_bytes = 400 << 10, .folder = folder});
        for (uint32_t i = 0; i < 4; ++i) client.complete(some_tokens(500, i), "fullkv");
        await_memory(client, 400 << 10);
        EXPECT_EQ(client.metric("sessions"), 4);
        for (uint32_t i = 0; i < 4; ++i) {
            EXPECT_EQ(cached(client.complete(some_tokens(500, i), "fullkv")), 500);
        }
    }
    Client again({.memory_bytes = 400 << 10, .folder = folder});  // the rest was written at the end
    EXPECT_EQ(again.metric("sessions"), 4);
    EXPECT_EQ(again.metric("sessions_memory_bytes"), 0);
    const auto tokens = some_tokens(500, 2);
    EXPECT_EQ(cached(again.complete(tokens + some_tokens(20, 3), "fullkv")), 500);
    EXPECT_THROW(Client({.folder = folder}), Error);  // somebody uses it
}

TEST(Sessions, FilesOfSpilledSessionsAreBoundedToo) {
    const std::string folder = test::new_folder(".sessions");
    Client client({.memory_bytes = 1, .folder = folder, .disk_bytes = 700 << 10});
    for (uint32_t i = 0; i < 8; ++i) {
        client.complete(some_tokens(500, i), "fullkv");
        await_memory(client, 1);
    }
    uint64_t bytes = 0;
    for (const auto& file : fs::directory_iterator(folder + "/.spilled")) bytes += file.file_size();
    EXPECT_LE(bytes, 700u << 10);
    EXPECT_GT(bytes, 0u);
    EXPECT_EQ(cached(client.complete(some_tokens(500, 7), "fullkv")), 500);
    EXPECT_EQ(cached(client.complete(some_tokens(500, 0), "fullkv")), 0);
}

// Every session is in a file by the time it is gone on from, and others are written, found and given up meanwhile.
TEST(Sessions, ComeFromFilesBesideOtherAnswers) {
    Client client({.memory_bytes = 1, .folder = test::new_folder(".sessions"), .disk_bytes = 8 << 20});
    std::atomic<int> right = 0;
    std::vector<std::thread> clients;
    for (uint32_t i = 0; i < 4; ++i) {
        clients.emplace_back([&, i] {
            const std::string method = i % 2 ? "fullkv" : "snapkv";
            Session session(served_model(), {.method = method});
            std::vector<Token> prompt = some_tokens(400, i);
            session.prefill(prompt);
            for (uint32_t turn = 0; turn < 4; ++turn) {
                const std::vector<Token> expected = answer(session, 12);
                const json reply = client.complete(prompt, method);
                right += text_of(reply) == as_text(expected) && cached(reply) == int(turn > 0 ? prompt.size() - 31 : 0);
                const std::vector<Token> next = some_tokens(30, 10 * i + turn);
                prompt = prompt + expected + next;
                session.extend(std::vector<Token>{expected.back()} + next);
            }
        });
    }
    for (std::thread& own : clients) own.join();
    EXPECT_EQ(right, 16);
}

TEST(Sessions, ADamagedFileIsPassedOver) {
    const std::string folder = test::new_folder(".sessions");
    { Client({.folder = folder}).complete(some_tokens(300)); }
    const fs::path path = fs::directory_iterator(folder + "/.spilled")->path();
    std::string content = test::read_file(path);
    content[content.size() - 50] ^= 1;  // behind the head: seen when it is wanted
    test::write_file(path, content);
    test::write_file(folder + "/.spilled/.left.1-1.part", "half a session");
    test::write_file(folder + "/notes.txt", "something else");
    Client client({.folder = folder});
    EXPECT_EQ(cached(client.complete(some_tokens(300))), 0);
    EXPECT_EQ(cached(client.complete(some_tokens(300))), 300);
    EXPECT_FALSE(fs::exists(folder + "/.spilled/.left.1-1.part"));
    EXPECT_TRUE(fs::exists(folder + "/notes.txt"));
}

TEST(Slots, SaveRestoreAndEraseASession) {
    const std::string folder = test::new_folder(".sessions");
    const json file = {{"filename", "mine.session"}};
    {
        Client client({.folder = folder});
        EXPECT_EQ(client.post("/slots/0?action=save", file).status, 404);  // nothing there yet
        client.complete(some_tokens(300));
        const json saved = client.post("/slots/0?action=save", file).json();
        EXPECT_EQ(saved["id_slot"], 0);
        EXPECT_EQ(saved["filename"], "mine.session");
        EXPECT_EQ(saved["n_saved"], 311);
        EXPECT_EQ(saved["n_written"], fs::file_size(folder + "/mine.session"));
        EXPECT_GT(saved["timings"]["save_ms"], 0);
        EXPECT_EQ(client.post("/slots/0?action=erase", json::object()).json()["n_erased"], 311);
        EXPECT_EQ(client.post("/slots/0?action=erase", json::object()).status, 404);
        EXPECT_EQ(cached(client.complete({{"prompt", some_tokens(300)}, {"cache_prompt", false}})), 0);
        const json restored = client.post("/slots/3?action=restore", file).json();
        EXPECT_EQ(restored["n_restored"], 311);
        EXPECT_EQ(cached(client.complete(some_tokens(300))), 300);
    }
    fs::remove_all(folder + "/.spilled");
    Client again({.folder = folder});  // a saved file is found without being restored
    EXPECT_EQ(cached(again.complete(some_tokens(300))), 300);
    EXPECT_TRUE(fs::exists(folder + "/mine.session"));
}

TEST(Slots, NoNameLeavesTheFolder) {
    const std::string folder = test::new_folder(".sessions");
    Client client({.folder = folder + "/sessions"});
    client.complete(some_tokens(50));
    for (const std::string name :
         {"", ".", "..", "../x", "/tmp/x", "a/b", ".spilled", ".lock", "a b", "a\nb", "a\\b"}) {
        for (const char* action : {"save", "restore"}) {
            const HttpReply reply = client.post(std::string("/slots/0?action=") + action, {{"filename", name}});
            EXPECT_EQ(reply.status, 400) << name;
            EXPECT_EQ(reply.json()["error"]["param"], "filename") << name;
        }
    }
    EXPECT_EQ(client.post("/slots/0?action=save", {{"filename", std::string(300, 'x')}}).status, 400);
    EXPECT_EQ(client.post("/slots/0?action=save", {{"filename", 5}}).status, 400);
    EXPECT_EQ(client.post("/slots/0?action=save", json::object()).status, 400);
    EXPECT_EQ(client.post("/slots/0?action=restore", {{"filename", "missing"}}).status, 400);
    EXPECT_EQ(client.post("/slots/0?action=other", {{"filename", "x"}}).status, 400);
    EXPECT_EQ(client.post("/slots/4?action=erase", json::object()).status, 404);
    EXPECT_EQ(client.post("/slots/x?action=erase", json::object()).status, 404);
    EXPECT_EQ(std::distance(fs::directory_iterator(folder), {}), 1);
    EXPECT_EQ(Client().post("/slots/0?action=save", {{"filename", "x"}}).status, 501);
}

TEST(Slots, AFullDiskIsAnError) {
    const std::string folder = test::new_folder(".sessions");
    Client client({.folder = folder});
    client.complete(some_tokens(500), "fullkv");
    const HttpReply reply = [&] {
        const test::FileSizeLimit full(20000);
        return client.post("/slots/0?action=save", {{"filename", "one"}});
    }();
    EXPECT_EQ(reply.status, 503);
    EXPECT_THAT(reply.body, HasSubstr("cannot write"));
    for (const auto& file : fs::directory_iterator(folder)) {
        EXPECT_TRUE(file.is_directory() || file.path().filename() == ".lock") << file.path();
    }
    EXPECT_EQ(client.post("/slots/0?action=save", {{"filename", "one"}}).status, 200);
}

// ---- the command ------------------------------------------------------------------------------------------------

/// A server of its own process, which is killed without a warning.
class Mortal {
  public:
    explicit Mortal(const std::string& folder) {
        const std::string err = test::temporary_path(".err");
        test::write_file(err, "");
        pid_ = fork();
        if (pid_ == 0) {
            const int fd = open(err.c_str(), O_WRONLY);
            dup2(fd, 2);
            execl(FASTKV_COMMAND, FASTKV_COMMAND, "serve", "-m", test::tiny_model_path().c_str(), "-t", "1", "--port",
                  "0", "--session-dir", folder.c_str(), nullptr);
            _exit(127);
        }
        const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
        std::string said;
        while (said.find('\n') == std::string::npos && std::chrono::steady_clock::now() < limit) {
            std::this_thread::sleep_for(std::chrono::milliseconds(2));
            said = test::read_file(err);
        }
        const size_t at = said.find("127.0.0.1:");
        if (at != std::string::npos) port_ = std::stoi(said.substr(at + 10));
        fs::remove(err);
    }
    ~Mortal() { die(); }
    void die() {
        if (pid_ <= 0) return;
        kill(pid_, SIGKILL);
        waitpid(pid_, nullptr, 0);
        pid_ = -1;
    }
    int port() const { return port_; }

  private:
    pid_t pid_ = -1;
    int port_ = 0;
};

TEST(ServeCommand, KilledWhileItSavesLosesNothingThatItConfirmed) {
    const std::string folder = test::new_folder(".sessions");
    std::mt19937 random(1);
    std::vector<std::string> confirmed;
    std::mutex mutex;
    for (int round = 0; round < 50; ++round) {
        Mortal server(folder);
        ASSERT_NE(server.port(), 0) << "round " << round;
        const auto act = [&](const std::string& action, const std::string& name) {
            return ask(server.port(),
                       request_text("POST", "/slots/0?action=" + action, json{{"filename", name}}.dump()))
                       .status == 200;
        };
        if (round == 0) {
            const json body = {{"prompt", some_tokens(3000)}, {"max_tokens", 2}, {"fastkv", {{"method", "fullkv"}}}};
            ASSERT_EQ(ask(server.port(), request_text("POST", "/v1/completions", body.dump())).status, 200);
        } else {
            ASSERT_TRUE(act("restore", confirmed.back()));
        }
        std::atomic<bool> begun = false;
        std::thread saving([&] {
            for (int i = 0; i < 100; ++i) {
                // new names and old ones: these must stay whole as well
                const std::string name = "round" + std::to_string(i % 2 ? round : round / 2);
                const bool saved = act("save", name);
                begun = true;
                if (!saved) break;
                const std::lock_guard lock(mutex);
                if (i == 0 || confirmed.back() != name) confirmed.push_back(name);
            }
        });
        while (!begun) std::this_thread::sleep_for(std::chrono::microseconds(100));
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 20000));
        server.die();
        saving.join();
        ASSERT_FALSE(confirmed.empty());
    }
    for (const std::string& name : confirmed) {
        EXPECT_EQ(Session::load(served_model(), folder + "/" + name).tokens().size(), 3001u) << name;
    }
    EXPECT_GE(confirmed.size(), 50u);
    Client client({.folder = folder});
    EXPECT_EQ(cached(client.complete(some_tokens(3000), "fullkv")), 3000);
}

TEST(ServeCommand, RefusesFoldersAndSizesThatCannotBe) {
    const auto run = [](std::vector<std::string> arguments) {
        std::vector<std::string> command = {FASTKV_COMMAND, "serve", "-m", test::tiny_model_path(), "--port", "0"};
        command.insert(command.end(), arguments.begin(), arguments.end());
        return test::run_process(command);
    };
    EXPECT_EQ(run({"--cache-mem", "much"}).code, 2);
    EXPECT_EQ(run({"--cache-mem", "-5"}).code, 2);
    const auto file = run({"--session-dir", test::tiny_model_path()});
    EXPECT_EQ(file.code, 1);
    EXPECT_THAT(file.err, HasSubstr("--session-dir"));
}

}  // namespace
}  // namespace fastkv
