// fastkv serve over real connections to a tiny model: answers, errors, limits, and clients that go away.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <memory>
#include <thread>

#include "server/keys.h"
#include "server/stop_strings.h"
#include "support/process.h"
#include "support/tiny_server.h"
#include "text/utf8.h"

namespace fastkv {
namespace {

using nlohmann::json;
using server::Server;
using server::ServerParams;
using server::StopStrings;
using test::ask;
using test::HttpReply;
using test::request_text;
using test::served_model;
using ::testing::HasSubstr;

ServerParams params_with(std::vector<std::string> keys = {}) {
    ServerParams params = test::server_params();
    params.api_keys = std::move(keys);
    return params;
}

/// With something else than usual.
template <class Change>
ServerParams params_but(Change change) {
    ServerParams params = params_with();
    change(params);
    return params;
}

class Serving : public ::testing::Test {
  protected:
    explicit Serving(const ServerParams& params = params_with()) : server_(served_model(), params) {}

    HttpReply get(const std::string& path) { return ask(server_.port(), request_text("GET", path)); }
    HttpReply post(const std::string& path, const std::string& body, const std::string& headers = "") {
        return ask(server_.port(), request_text("POST", path, body, headers));
    }
    json complete(const json& body) {
        const HttpReply reply = post("/v1/completions", body.dump());
        EXPECT_EQ(reply.status, 200) << reply.body;
        return reply.json();
    }
    double metric(const std::string& name) { return test::metric(server_.port(), name); }
    /// Waits until a metric has a value; a server that never gets there fails the test.
    void await_metric(const std::string& name, double value) {
        const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
        while (metric(name) != value) {
            ASSERT_LT(std::chrono::steady_clock::now(), limit) << name << " is " << metric(name);
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
    }
    /// The error object of a completion that is refused with 400.
    json refused(const json& body, const std::string& path = "/v1/completions") {
        const HttpReply reply = post(path, body.dump());
        EXPECT_EQ(reply.status, 400) << body << reply.body;
        return reply.json().at("error");
    }

    Server server_;
};

std::vector<Token> some_tokens(int n, int seed = 1) {
    std::vector<Token> tokens;
    for (int i = 0; i < n; ++i) tokens.push_back(10 + (i * 37 + seed * 11) % 280);
    return tokens;
}

/// What the engine itself answers.
std::string answer_of(const MethodParams& method, const std::vector<Token>& prompt, int n) {
    Session session(served_model(), method);
    Sampler sampler(served_model(), {});
    session.prefill(prompt);
    std::string text;
    for (int i = 0; i < n; ++i) {
        const Token token = sampler.sample(session.logits());
        if (served_model().is_end_of_generation(token)) break;
        text += served_model().piece(token);
        session.decode(token);
    }
    return text;
}

/// JSON holds whole characters only.
std::string as_utf8(const std::string& bytes) {
    text::Utf8Stream utf8;
    const std::string whole = utf8.push(bytes);
    return whole + utf8.finish();
}

/// The objects of a stream's "data:" lines; the last line must be [DONE].
std::vector<json> chunks_of(const std::string& body) {
    std::vector<json> chunks;
    std::istringstream lines(body);
    std::string last;
    for (std::string line; std::getline(lines, line);) {
        if (!line.starts_with("data: ")) continue;
        last = line.substr(6);
        if (last != "[DONE]") chunks.push_back(json::parse(last));
    }
    EXPECT_EQ(last, "[DONE]");
    return chunks;
}

// ---- answers ----------------------------------------------------------------------------------------------------

TEST_F(Serving, CompletionsAreTheEnginesAnswers) {
    const auto prompt = some_tokens(300);
    for (const char* method : {"fullkv", "fastkv", "gemfilter"}) {
        const json reply = complete({{"prompt", prompt}, {"max_tokens", 12}, {"fastkv", {{"method", method}}}});
        EXPECT_EQ(reply["choices"][0]["text"], as_utf8(answer_of({.method = method}, prompt, 12))) << method;
        EXPECT_EQ(reply["usage"]["prompt_tokens"], 300);
        EXPECT_EQ(reply["fastkv"]["method"], method);
        EXPECT_EQ(reply["model"], "tiny");
        EXPECT_GT(reply["timings"]["prompt_ms"], 0);
    }
}

TEST_F(Serving, ParametersOfARequestDecideWhatIsKept) {
    const auto kept = [&](const json& fastkv) {
        return complete({{"prompt", some_tokens(400)}, {"max_tokens", 1}, {"fastkv", fastkv}})["usage"]["kept_tokens"];
    };
    EXPECT_EQ(kept({{"method", "snapkv"}, {"retain_rate", 0.25}})["max"], 100);
    EXPECT_EQ(kept({{"method", "snapkv"}, {"budget", 64}})["max"], 64);
    EXPECT_EQ(kept({{"method", "fullkv"}})["min"], 400);
}

TEST_F(Serving, SeveralPromptsAreAnsweredInOrder) {
    const auto one = some_tokens(40, 1), two = some_tokens(50, 2);
    const json reply = complete({{"prompt", {one, two}}, {"max_tokens", 6}});
    ASSERT_EQ(reply["choices"].size(), 2u);
    EXPECT_EQ(reply["choices"][0]["text"], as_utf8(answer_of({}, one, 6)));
    EXPECT_EQ(reply["choices"][1]["text"], as_utf8(answer_of({}, two, 6)));
    EXPECT_EQ(reply["choices"][1]["index"], 1);
    EXPECT_EQ(reply["usage"]["prompt_tokens"], 90);
    EXPECT_EQ(complete({{"prompt", {"some", "texts"}}})["choices"].size(), 2u);
}

TEST_F(Serving, StreamsSayWhatTheWholeAnswerSays) {
    const json body = {{"messages", {{{"role", "user"}, {"content", "Hello there"}}}}, {"max_tokens", 10}};
    const HttpReply whole = post("/v1/chat/completions", body.dump());
    ASSERT_EQ(whole.status, 200) << whole.body;
    json streamed = body;
    streamed["stream"] = true;
    streamed["stream_options"] = {{"include_usage", true}};
    const HttpReply reply = post("/v1/chat/completions", streamed.dump());
    EXPECT_THAT(reply.headers, HasSubstr("text/event-stream"));
    const auto chunks = chunks_of(reply.body);
    ASSERT_GE(chunks.size(), 3u);
    EXPECT_EQ(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    std::string text;
    for (const json& chunk : chunks) {
        EXPECT_EQ(chunk["object"], "chat.completion.chunk");
        if (!chunk["choices"].empty()) text += chunk["choices"][0]["delta"].value("content", "");
    }
    EXPECT_EQ(text, whole.json()["choices"][0]["message"]["content"]);
    const json& ending = chunks[chunks.size() - 2];
    EXPECT_EQ(ending["choices"][0]["finish_reason"], whole.json()["choices"][0]["finish_reason"]);
    EXPECT_TRUE(ending.contains("timings"));
    EXPECT_EQ(chunks.back()["choices"], json::array());
    EXPECT_EQ(chunks.back()["usage"]["prompt_tokens"], whole.json()["usage"]["prompt_tokens"]);
}

TEST_F(Serving, StopTextsEndAnAnswerAndAreLeftOut) {
    const auto prompt = some_tokens(60);
    const std::string full = complete({{"prompt", prompt}, {"max_tokens", 30}})["choices"][0]["text"];
    ASSERT_GT(full.size(), 12u);
    size_t at = 6;  // of a whole character
    while ((static_cast<unsigned char>(full[at]) & 0xC0) == 0x80) ++at;
    size_t end = at + 3;
    while (end < full.size() && (static_cast<unsigned char>(full[end]) & 0xC0) == 0x80) ++end;
    const std::string stop = full.substr(at, end - at);
    const json reply = complete({{"prompt", prompt}, {"max_tokens", 30}, {"stop", {"not there", stop}}});
    EXPECT_EQ(reply["choices"][0]["text"], full.substr(0, full.find(stop)));
    EXPECT_EQ(reply["choices"][0]["finish_reason"], "stop");
}

TEST_F(Serving, SeedsRepeatAnAnswer) {
    const json body = {{"prompt", some_tokens(30)}, {"max_tokens", 20}, {"temperature", 2.0}, {"seed", 7}};
    const json first = complete(body)["choices"][0]["text"];
    EXPECT_EQ(complete(body)["choices"][0]["text"], first);
    json other = body;
    other["seed"] = 8;
    EXPECT_NE(complete(other)["choices"][0]["text"], first);
}

// As lm-evaluation-harness asks for the likelihood of a text.
TEST_F(Serving, EchoWithLogprobsScoresThePrompt) {
    const auto prompt = some_tokens(200);
    const json reply =
        complete({{"prompt", prompt}, {"max_tokens", 1}, {"logprobs", 1}, {"echo", true}, {"temperature", 0}});
    const json& logprobs = reply["choices"][0]["logprobs"];
    ASSERT_EQ(logprobs["token_logprobs"].size(), 201u);
    EXPECT_TRUE(logprobs["token_logprobs"][0].is_null());
    EXPECT_EQ(reply["fastkv"]["method"], "fullkv");

    Session session(served_model(), {.method = "fullkv"}, {.all_logits = true});
    session.prefill(prompt);
    const size_t n_vocab = size_t(served_model().hparams().n_vocab);
    for (size_t i = 1; i < prompt.size(); ++i) {
        const auto row = session.all_logits().subspan((i - 1) * n_vocab, n_vocab);
        double sum = 0;
        for (const float logit : row) sum += std::exp(double(logit));
        const double expected = double(row[size_t(prompt[i])]) - std::log(sum);
        ASSERT_NEAR(logprobs["token_logprobs"][i].get<double>(), expected, 1e-3) << i;
        double best = -INFINITY;
        for (const auto& [text, value] : logprobs["top_logprobs"][i].items())
            best = std::max(best, value.get<double>());
        const bool greedy = *std::max_element(row.begin(), row.end()) == row[size_t(prompt[i])];
        ASSERT_EQ(best == logprobs["token_logprobs"][i].get<double>(), greedy) << i;
    }
    const json none = complete({{"prompt", prompt}, {"max_tokens", 0}, {"logprobs", 0}, {"echo", true}});
    EXPECT_EQ(none["choices"][0]["logprobs"]["tokens"].size(), 200u);
    EXPECT_EQ(none["choices"][0]["text"], as_utf8(served_model().detokenize(prompt, true)));
    refused({{"prompt", prompt}, {"logprobs", 1}, {"echo", true}, {"fastkv", {{"method", "snapkv"}}}});
}

TEST_F(Serving, LogprobsOfAnAnswerComeWithItsTokens) {
    json body = {{"messages", {{{"role", "user"}, {"content", "Hi"}}}}, {"max_tokens", 5}, {"ignore_eos", true}};
    body["logprobs"] = true;
    body["top_logprobs"] = 3;
    const json content = post("/v1/chat/completions", body.dump()).json()["choices"][0]["logprobs"]["content"];
    ASSERT_EQ(content.size(), 5u);
    for (const json& token : content) {
        ASSERT_EQ(token["top_logprobs"].size(), 3u);
        EXPECT_EQ(token["logprob"], token["top_logprobs"][0]["logprob"]);  // greedy
        EXPECT_LE(token["logprob"], 0);
    }
}

// ---- the other endpoints ----------------------------------------------------------------------------------------

TEST_F(Serving, TokenizesBothBodies) {
    const auto tokens = served_model().tokenize("some text", false, true);
    EXPECT_EQ(post("/tokenize", R"({"content": "some text"})").json()["tokens"], json(tokens));
    EXPECT_EQ(post("/tokenize", R"({"prompt": "some text", "add_special_tokens": false})").json()["tokens"],
              json(tokens));
    EXPECT_EQ(post("/tokenize", R"({"prompt": "some text"})").json()["tokens"],
              json(served_model().tokenize("some text", true, true)));
    const json text = post("/detokenize", json{{"tokens", tokens}}.dump()).json();
    EXPECT_EQ(text["content"], served_model().detokenize(tokens, true));
    EXPECT_EQ(text["prompt"], text["content"]);
    EXPECT_EQ(get("/tokenizer_info").json()["eos_token"], served_model().piece(*served_model().eos_token(), true));
}

TEST_F(Serving, SaysWhatItIs) {
    EXPECT_EQ(get("/health").json()["status"], "ok");
    EXPECT_EQ(get("/v1/models").json()["data"][0]["id"], "tiny");
    EXPECT_EQ(get("/props").json()["default_generation_settings"]["n_ctx"], 4096);
    EXPECT_EQ(get("/slots").json().size(), 4u);
    complete({{"prompt", some_tokens(25)}, {"max_tokens", 3}, {"ignore_eos", true}});
    const std::string metrics = get("/metrics").body;
    EXPECT_THAT(metrics, HasSubstr("\nfastkv:prompt_tokens_total 25\n"));
    EXPECT_THAT(metrics, HasSubstr("\nfastkv:tokens_predicted_total 3\n"));
}

// ---- what is wrong ----------------------------------------------------------------------------------------------

TEST_F(Serving, WrongFieldsAreNamed) {
    const json good = {{"prompt", "text"}, {"max_tokens", 1}, {"something_unknown", {1, 2}}};
    complete(good);
    const auto param_of = [&](const char* name, const json& value) {
        json body = good;
        body[name] = value;
        return refused(body)["param"].dump();
    };
    EXPECT_EQ(param_of("temperature", "hot"), "\"temperature\"");
    EXPECT_EQ(param_of("temperature", -1), "\"temperature\"");
    EXPECT_EQ(param_of("top_p", 1.5), "\"top_p\"");
    EXPECT_EQ(param_of("max_tokens", 1.5), "\"max_tokens\"");
    EXPECT_EQ(param_of("seed", "x"), "\"seed\"");
    EXPECT_EQ(param_of("stop", {1, 2}), "\"stop\"");
    EXPECT_EQ(param_of("n", 2), "\"n\"");
    EXPECT_EQ(param_of("stream", 1), "\"stream\"");
    EXPECT_EQ(param_of("logprobs", 1000), "\"logprobs\"");
    EXPECT_EQ(param_of("prompt", {1, -1}), "\"prompt\"");
    EXPECT_EQ(param_of("prompt", {1, 1000000}), "\"prompt\"");
    EXPECT_EQ(param_of("prompt", json::array()), "\"prompt\"");
    EXPECT_EQ(param_of("prompt", nullptr), "\"prompt\"");
    EXPECT_EQ(param_of("prompt", some_tokens(5000)), "\"prompt\"");  // past the context
    EXPECT_EQ(param_of("fastkv", {{"retain_rate", 7}}), "\"fastkv\"");
    EXPECT_EQ(param_of("fastkv", {{"method", "magic"}}), "\"fastkv\"");
    EXPECT_EQ(param_of("fastkv", {{"retain_rat", 0.5}}), "\"fastkv.retain_rat\"");
    EXPECT_EQ(param_of("fastkv", {{"retain_rate", {1}}}), "\"fastkv.retain_rate\"");
    EXPECT_EQ(param_of("fastkv", {{"reuse", 1}}), "\"fastkv.reuse\"");
    EXPECT_EQ(param_of("fastkv", {{"document_id", 1}}), "\"fastkv.document_id\"");
    EXPECT_EQ(param_of("tools", {{{"type", "function"}}}), "\"tools\"");
    for (const char* messages :
         {R"([])", R"("text")", R"([{"role": "robot", "content": "x"}])", R"([1])",
          R"([{"role": "user", "content": 5}])", R"([{"role": "user", "content": "a\u0000"}])"}) {
        const std::string body = std::string(R"({"messages": )") + messages + "}";
        EXPECT_EQ(post("/v1/chat/completions", body).status, 400) << body;
    }
}

TEST_F(Serving, BrokenRequestsAreRefusedAndTheServerLives) {
    for (const char* body : {"", "{", "[]", "5", "{\"prompt\": \"\xFF\"}", "nonsense"}) {
        const HttpReply reply = post("/v1/completions", body);
        EXPECT_EQ(reply.status, 400) << body;
        EXPECT_EQ(reply.json()["error"]["type"], "invalid_request_error");
    }
    EXPECT_EQ(post("/v1/completions", std::string(100000, '[')).status, 400);
    for (const char* body :
         {R"({"prompt": "x", "max_tokens": 1e999})", R"({"prompt": "x", "seed": 1e300})", R"({"prompt": [1e99]})",
          R"({"prompt": [18446744073709551616]})", R"({"prompt": [-9223372036854775808]})", "{\"prompt\": \"\\ud800\"}",
          "{\"prompt\": \"a\xC3\"}", R"({"prompt": "x"} {"prompt": "y"})", R"({"prompt": "x",})", "\xEF\xBB\xBF"}) {
        EXPECT_EQ(post("/v1/completions", body).status, 400) << body;
    }
    EXPECT_EQ(get("/nothing").status, 404);
    EXPECT_EQ(get("/../etc/passwd").status, 404);
    const HttpReply wrong = get("/v1/completions");
    EXPECT_EQ(wrong.status, 405);
    EXPECT_THAT(wrong.headers, HasSubstr("Allow: POST"));
    const int port = server_.port();
    for (const std::string& raw :
         {std::string("\r\n\r\n"), std::string("GET\r\n\r\n"), std::string("\x16\x03\x01\x02", 4),
          std::string("GET / HTTP/9.9\r\n\r\n"), std::string(200, '\0'),
          "POST /v1/completions HTTP/1.1\r\nContent-Length: -5\r\n\r\n" + std::string(9, 'x')}) {
        test::Connection connection(port);
        connection.send_all(raw);
        connection.send_all("\r\n\r\n");
    }
    const HttpReply large = ask(port,
                                "POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                                "Content-Length: 99999999999\r\n\r\n");
    EXPECT_EQ(large.status, 413);
    const HttpReply headers = ask(port, request_text("GET", "/health", "", "X: " + std::string(100000, 'x') + "\r\n"));
    EXPECT_THAT(headers.status, ::testing::AnyOf(0, 413, 431));
    EXPECT_EQ(get("/health").status, 200);
}

TEST_F(Serving, DeepNestingIsRefusedWhereverItStands) {
    const std::string deep = std::string(500000, '[') + std::string(500000, ']');
    const std::string objects = [] {
        std::string text = "1";
        for (int i = 0; i < 65; ++i) text = R"({"a": )" + text + "}";
        return text;
    }();
    for (const std::string& value : {deep, objects}) {
        for (const std::string& body : {R"({"messages": [{"role": )" + value + "}]}",
                                        R"({"messages": [{"role": "user", "content": )" + value + "}]}",
                                        R"({"messages": [{"role": "user", "content": [{"type": )" + value + "}]}]}",
                                        R"({"messages": [], "response_format": {"type": )" + value + "}}",
                                        R"({"fastkv": {"x": )" + value + "}}"}) {
            const HttpReply reply = post("/v1/chat/completions", body);
            EXPECT_EQ(reply.status, 400);
            EXPECT_THAT(reply.body, HasSubstr("64 levels"));
        }
    }
    // Brackets in a text are none, whatever is escaped before them.
    const std::string text = R"(\"[[[)" + std::string(1000, '[');
    EXPECT_EQ(post("/v1/completions", R"({"max_tokens": 1, "prompt": ")" + text + R"("})").status, 200);
}

TEST_F(Serving, WhatFollowsARequestIsOneOrNone) {
    const std::string kept = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    const auto n_answers = [&](const std::string& raw) {
        test::Connection connection(server_.port());
        connection.send_all(raw);
        const std::string received = connection.receive();
        size_t n = 0;
        for (size_t at = 0; (at = received.find("HTTP/1.1 200", at)) != std::string::npos; ++at) ++n;
        return n;
    };
    EXPECT_EQ(n_answers(kept + request_text("GET", "/health")), 2u);
    // What is left of a body that is longer than it said is no request.
    EXPECT_EQ(
        n_answers("POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n{\"content\": \"\"}}}}}\r\n\r\n"),
        1u);
    test::Connection garbage(server_.port());
    garbage.send_all(kept + std::string("\0\1\xFFnonsense\r\n\r\n", 15));
    EXPECT_THAT(garbage.receive("}"), HasSubstr("200 OK"));
    // A request with two lengths is two requests to some proxies.
    for (const char* headers :
         {"Content-Length: 15\r\nContent-Length: 3", "Content-Length: 15\r\nContent-Length: 15", "Content-Length: x",
          "Content-Length: 1 5", "Content-Length: 5\r\nTransfer-Encoding: chunked"}) {
        const std::string body = "\r\n\r\n5\r\n{    \r\n0\r\n\r\n";
        const HttpReply reply =
            ask(server_.port(), std::string("POST /tokenize HTTP/1.1\r\nHost: x\r\n") + headers + body);
        EXPECT_EQ(reply.status, 400) << headers;
    }
    EXPECT_EQ(get("/health").status, 200);
}

class ServingWithKeys : public Serving {
  protected:
    ServingWithKeys() : Serving(params_with({"first key", "second"})) {}
};

TEST_F(ServingWithKeys, AsksForOne) {
    const std::string body = R"({"prompt": "text", "max_tokens": 1})";
    const auto status = [&](const std::string& header) { return post("/v1/completions", body, header).status; };
    EXPECT_EQ(status(""), 401);
    EXPECT_EQ(status("Authorization: Bearer wrong\r\n"), 401);
    EXPECT_EQ(status("Authorization: Bearer second2\r\n"), 401);
    EXPECT_EQ(status("Authorization: Bearer \r\n"), 401);
    EXPECT_EQ(status("Authorization: Bearer second\r\n"), 200);
    EXPECT_EQ(status("Authorization: Bearer first key\r\n"), 200);
    EXPECT_EQ(status("authorization: bearer second\r\n"), 200);
    EXPECT_EQ(status("X-Api-Key: second\r\n"), 200);
    EXPECT_EQ(get("/health").status, 200);
    EXPECT_EQ(get("/nothing").status, 401);
}

TEST(ServeKeys, AreTheLinesOfAFile) {
    const std::string path = test::temporary_path(".keys");
    test::write_file(path, "first\r\n# no key\n\n \t second one \n   # neither");
    EXPECT_EQ(server::read_keys(path), (std::vector<std::string>{"first", "second one"}));
    test::write_file(path, "\n # none\n");
    EXPECT_THROW(server::read_keys(path), Error);
}

// ---- many at a time ---------------------------------------------------------------------------------------------

TEST_F(Serving, AnswersAtOneTimeAreThoseOfOneByOne) {
    std::vector<std::string> bodies, expected;
    for (int i = 0; i < 8; ++i) {
        const auto prompt = some_tokens(i % 2 ? 1500 : 40, i);
        bodies.push_back(json{{"prompt", prompt}, {"max_tokens", 20}}.dump());
        expected.push_back(as_utf8(answer_of({}, prompt, 20)));
    }
    std::vector<std::thread> clients;
    std::atomic<int> right = 0;
    for (size_t i = 0; i < bodies.size(); ++i) {
        clients.emplace_back([&, i] {
            const HttpReply reply = post("/v1/completions", bodies[i]);
            right += reply.status == 200 && reply.json()["choices"][0]["text"] == expected[i];
        });
    }
    for (std::thread& client : clients) client.join();
    EXPECT_EQ(right, 8);
}

class ServingOne : public Serving {
  protected:
    ServingOne() : Serving(params_but([](ServerParams& params) { params.worker = {.n_parallel = 1, .n_queue = 1}; })) {}

    /// A stream that has begun and goes on for a long time.
    void begin(test::Connection& connection) {
        const std::vector<std::vector<Token>> prompts(500, some_tokens(20));
        const json body = {{"prompt", prompts}, {"max_tokens", 4000}, {"ignore_eos", true}, {"stream", true}};
        ASSERT_TRUE(connection.send_all(request_text("POST", "/v1/completions", body.dump())));
        ASSERT_THAT(connection.receive("\"text\""), HasSubstr("200 OK"));
    }
};

TEST_F(ServingOne, RefusesWhatIsPastTheQueueUntilClientsGo) {
    const std::string body = json{{"prompt", some_tokens(20)}, {"max_tokens", 1}}.dump();
    {
        test::Connection running(server_.port());
        begin(running);
        test::Connection waiting(server_.port());
        waiting.send_all(request_text("POST", "/v1/completions", body));
        await_metric("requests_deferred", 1);
        const HttpReply full = post("/v1/completions", body);
        EXPECT_EQ(full.status, 429);
        EXPECT_THAT(full.headers, HasSubstr("Retry-After: "));
    }
    await_metric("requests_processing", 0);
    EXPECT_GE(metric("requests_cancelled_total"), 1);
    EXPECT_EQ(post("/v1/completions", body).status, 200);
}

TEST_F(ServingOne, TellsThoseThatWaitWhenItStops) {
    auto running = std::make_unique<test::Connection>(server_.port());
    begin(*running);
    test::Connection waiting(server_.port());
    waiting.send_all(request_text("POST", "/v1/completions", R"({"prompt": "text", "max_tokens": 1})"));
    await_metric("requests_deferred", 1);
    std::thread end([&] { server_.finish(); });
    const HttpReply reply = test::reply_of(waiting.receive());
    EXPECT_EQ(reply.status, 503);
    EXPECT_THAT(reply.headers, HasSubstr("Retry-After: "));
    EXPECT_THAT(reply.body, HasSubstr("stopping"));
    running.reset();
    end.join();
}

/// Descriptors of this process, the server's among them.
size_t open_descriptors() {
    const std::filesystem::directory_iterator all("/proc/self/fd");
    return size_t(std::distance(begin(all), end(all)));
}

class ServingTheAbsent : public Serving {
  protected:
    ServingTheAbsent() : Serving(params_but([](ServerParams& params) { params.limits.idle_seconds = 1; })) {}
};

TEST_F(ServingTheAbsent, AThousandAbandonedConnectionsLeaveNothingBehind) {
    EXPECT_EQ(get("/health").status, 200);
    const size_t before = open_descriptors();
    const json body = {{"prompt", some_tokens(200)}, {"max_tokens", 3000}, {"ignore_eos", true}};
    json streamed = body;
    streamed["stream"] = true;
    const std::string whole = request_text("POST", "/v1/completions", body.dump());
    std::vector<std::unique_ptr<test::Connection>> left;  // open: the server has to end them
    for (size_t i = 0; i < 1000; ++i) {
        auto connection = std::make_unique<test::Connection>(server_.port());
        ASSERT_TRUE(connection->connected()) << i;
        if (i % 5 == 1 || i % 5 == 4) connection->send_all(whole.substr(0, i % whole.size()));  // cut off anywhere
        if (i % 5 == 2) connection->send_all(whole);
        if (i % 5 == 3) connection->send_all(request_text("POST", "/v1/completions", streamed.dump()));
        if (i % 5 == 4) left.push_back(std::move(connection));
    }
    EXPECT_EQ(post("/v1/completions", R"({"prompt": "text", "max_tokens": 1})").status, 200);
    await_metric("requests_deferred", 0);
    await_metric("requests_processing", 0);
    for (const auto& connection : left) connection->receive();  // until the server closes it
    left.clear();
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (open_descriptors() > before && std::chrono::steady_clock::now() < limit) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    EXPECT_LE(open_descriptors(), before);
}

class ServingTheSlow : public Serving {
  protected:
    ServingTheSlow() : Serving(params_but([](ServerParams& params) { params.limits.body_seconds = 1; })) {}
};

TEST_F(ServingTheSlow, EndsABodyThatTrickles) {
    test::Connection slow(server_.port());
    slow.send_all("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
    std::atomic<bool> ended = false;
    std::thread client([&] {
        while (!ended && slow.send_all(" ")) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    });
    EXPECT_EQ(slow.receive(), "");  // long before all of it could be there
    ended = true;
    client.join();
    EXPECT_EQ(get("/health").status, 200);
}

class ServingLargeBodies : public Serving {
  protected:
    ServingLargeBodies() : Serving(params_but([](ServerParams& params) { params.limits.max_bodies = 300 << 10; })) {}

    /// A completion of a short prompt whose body is `bytes` long.
    static std::string body_of(size_t bytes) {
        const std::string begin = R"({"prompt": "text", "max_tokens": 1, "unknown": ")";
        return begin + std::string(bytes - begin.size() - 2, 'x') + "\"}";
    }
    /// Asks, until the answer is `status`, whether a body of that many bytes may come: 100 says that it may.
    HttpReply await_status(size_t bytes, int status) {
        const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
        HttpReply reply;
        do {
            test::Connection connection(server_.port());
            connection.send_all("POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: " +
                                std::to_string(bytes) + "\r\nExpect: 100-continue\r\n\r\n");
            std::string raw = connection.receive("\r\n\r\n");
            if (raw.find(" 100 ") == std::string::npos) raw += connection.receive();
            reply = test::reply_of(raw);
        } while (reply.status != status && std::chrono::steady_clock::now() < limit);
        EXPECT_EQ(reply.status, status) << reply.body;
        return reply;
    }
};

TEST_F(ServingLargeBodies, HaveRoomTogetherUpToALimit) {
    EXPECT_EQ(post("/v1/completions", body_of(350 << 10)).status, 200);  // alone, the first 64 KiB not counted
    {
        test::Connection slow(server_.port());
        const std::string request = request_text("POST", "/v1/completions", body_of(300 << 10));
        slow.send_all(request.substr(0, request.size() - 1));
        const HttpReply reply = await_status(200 << 10, 503);
        EXPECT_THAT(reply.headers, HasSubstr("Retry-After: "));
        EXPECT_EQ(reply.json()["error"]["type"], "unavailable_error");
        EXPECT_EQ(post("/v1/completions", body_of(60 << 10)).status, 200);  // small ones come through
        slow.send_all("}");
        EXPECT_THAT(slow.receive(), HasSubstr("200 OK"));
    }
    await_status(350 << 10, 100);
    EXPECT_EQ(post("/v1/completions", body_of(350 << 10)).status, 200);
}

TEST_F(ServingLargeBodies, AreMeasuredWhereTheyDoNotSayTheirLength) {
    test::Connection connection(server_.port());
    connection.send_all(
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n");
    const std::string body = body_of(512 << 10);
    for (size_t at = 0; at < body.size(); at += 64 << 10)
        connection.send_all("10000\r\n" + body.substr(at, 64 << 10) + "\r\n");
    connection.send_all("0\r\n\r\n");
    const HttpReply reply = test::reply_of(connection.receive());
    EXPECT_EQ(reply.status, 503);
    EXPECT_THAT(reply.headers, HasSubstr("Retry-After: "));
    await_status(350 << 10, 100);
}

class ServingImpatiently : public Serving {
  protected:
    ServingImpatiently()
        : Serving(params_but([](ServerParams& params) {
              params.timeout_seconds = 1;
              params.worker = {.n_parallel = 1, .n_queue = 4};
          })) {}
};

TEST_F(ServingImpatiently, EndsWhatTakesTooLong) {
    const std::vector<std::vector<Token>> prompts(200, some_tokens(4000));
    const json body = {{"prompt", prompts},
                       {"max_tokens", 90},
                       {"ignore_eos", true},
                       {"fastkv", {{"method", "h2o"}, {"reuse", false}}}};
    const HttpReply reply = post("/v1/completions", body.dump());
    EXPECT_EQ(reply.status, 503);
    EXPECT_THAT(reply.body, HasSubstr("--timeout"));
}

// ---- parts, and the command -------------------------------------------------------------------------------------

TEST(StopStringsTest, HoldBackWhatMayBecomeOne) {
    StopStrings stop({"END", "\n\n"});
    EXPECT_EQ(stop.push("abE"), "ab");
    EXPECT_EQ(stop.push("N"), "");
    EXPECT_EQ(stop.push("T\n"), "ENT");
    EXPECT_EQ(stop.push("x"), "\nx");
    EXPECT_EQ(stop.push("yEND z"), "y");
    EXPECT_TRUE(stop.found());
    StopStrings other({"END"});
    EXPECT_EQ(other.push("an EN"), "an ");
    EXPECT_EQ(other.finish(), "EN");
    EXPECT_FALSE(other.found());
}

TEST(ServeCommand, EndsWhatHasBegunOnSigterm) {
    std::atomic<int> port = 0;
    test::HttpReply reply;
    const std::string err_path = test::temporary_path(".err");
    test::write_file(err_path, "");
    const auto result = test::run_process(
        {"/bin/sh", "-c",
         "exec " FASTKV_COMMAND " serve -m " + test::tiny_model_path() + " -t 1 --port 0 2> " + err_path},
        {.watch = [&](pid_t pid, const std::string&) {
            const std::string err = test::read_file(err_path);
            const size_t at = err.find("127.0.0.1:");
            if (at == std::string::npos || err.find('\n', at) == std::string::npos) return false;
            port = std::stoi(err.substr(at + 10));
            test::Connection running(port);
            const json body = {
                {"prompt", some_tokens(20)}, {"max_tokens", 300}, {"ignore_eos", true}, {"stream", true}};
            running.send_all(request_text("POST", "/v1/completions", body.dump()));
            std::string raw = running.receive("\"text\"");
            kill(pid, SIGTERM);
            raw += running.receive();
            reply = test::reply_of(raw);
            return true;
        }});
    EXPECT_EQ(result.code, 0);
    const auto chunks = chunks_of(reply.body);
    ASSERT_FALSE(chunks.empty());
    EXPECT_EQ(chunks.back()["choices"][0]["finish_reason"], "length");
    EXPECT_FALSE(test::Connection(port).connected());
}

TEST(ServeCommand, RefusesWhatCannotBe) {
    const auto run = [](std::vector<std::string> arguments) {
        std::vector<std::string> command = {FASTKV_COMMAND, "serve", "-m", test::tiny_model_path()};
        command.insert(command.end(), arguments.begin(), arguments.end());
        return test::run_process(command);
    };
    EXPECT_EQ(run({"--port", "70000"}).code, 2);
    EXPECT_EQ(run({"--parallel", "0"}).code, 2);
    EXPECT_EQ(run({"--api-key", ""}).code, 2);
    EXPECT_EQ(run({"--retain-rate", "7"}).code, 2);
    const auto file = run({"--api-key-file", "/nowhere/keys"});
    EXPECT_EQ(file.code, 1);
    EXPECT_THAT(file.err, HasSubstr("/nowhere/keys"));
    const Server taken(served_model(), params_with());
    const auto busy = run({"--port", std::to_string(taken.port())});
    EXPECT_EQ(busy.code, 1);
    EXPECT_THAT(busy.err, HasSubstr("cannot listen"));
}

}  // namespace
}  // namespace fastkv
