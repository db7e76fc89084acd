// What fastkv serve has for its page: the page's own files, and the report of what every layer kept.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "server/layer_report.h"
#include "server/page.h"
#include "support/tiny_server.h"
#include "text/utf8.h"

namespace fastkv {
namespace {

using nlohmann::json;
using test::ask;
using test::HttpReply;
using test::request_text;
using test::served_model;
using ::testing::HasSubstr;
using ::testing::Not;

server::ServerParams params() {
    server::ServerParams params;
    params.port = 0;
    params.api_keys = {"a-key"};
    return params;
}

class Page : public ::testing::Test {
  protected:
    HttpReply request(const std::string& method, const std::string& path, const json& body = {},
                      const std::string& headers = "X-Api-Key: a-key\r\n") {
        return ask(server_.port(), request_text(method, path, body.is_null() ? "" : body.dump(), headers));
    }
    json answer(const json& fastkv, const std::string& prompt) {
        const json body = {{"prompt", prompt}, {"max_tokens", 4}, {"fastkv", fastkv}};
        const HttpReply reply = request("POST", "/v1/completions", body);
        EXPECT_EQ(reply.status, 200) << reply.body;
        return reply.json();
    }

    server::Server server_{served_model(), params()};
};

// Characters of two, three and four bytes, each byte a token of its own.
std::string long_text() {
    std::string text;
    for (int i = 0; i < 12; ++i) text += "Käse für 5 €, 🐟 alt. ";
    return text;
}

std::vector<int> positions_of(const json& ranges) {
    std::vector<int> positions;
    for (const json& range : ranges) {
        for (int position = range[0]; position <= range[1]; ++position) positions.push_back(position);
    }
    return positions;
}

// ---- the page ----

TEST_F(Page, NeedsNoKeyAndRefersToNobodyElse) {
    const HttpReply page = request("GET", "/", {}, "");
    ASSERT_EQ(page.status, 200);
    EXPECT_THAT(page.headers, HasSubstr("text/html; charset=utf-8"));
    EXPECT_THAT(page.headers, HasSubstr("Content-Security-Policy: default-src 'self';"));
    EXPECT_THAT(page.headers, HasSubstr("X-Content-Type-Options: nosniff"));
    EXPECT_THAT(page.body, Not(HasSubstr("://")));
    EXPECT_EQ(request("GET", "/props", {}, "").status, 401);
}

TEST_F(Page, HasEveryFileThatItNames) {
    const std::string page = request("GET", "/", {}, "").body;
    size_t n_files = 0;
    for (size_t at = page.find("\"page/"); at != std::string::npos; at = page.find("\"page/", at + 1), ++n_files) {
        const size_t begin = at + 1;
        const std::string name = page.substr(begin, page.find('"', begin) - begin);
        const std::string path = std::string("/").append(name);
        const HttpReply file = request("GET", path, {}, "");
        EXPECT_EQ(file.status, 200) << path;
        EXPECT_GT(file.body.size(), 100u) << path;
    }
    EXPECT_GE(n_files, 3u);
    EXPECT_EQ(request("GET", "/page/index.html").status, 404);
    EXPECT_EQ(request("GET", "/page/../page/style.css").status, 404);
    EXPECT_EQ(request("POST", "/", json::object()).status, 405);
    EXPECT_EQ(request("HEAD", "/").status, 200);
}

// ---- the report ----

TEST_F(Page, ReportIsTheEngines) {
    const std::string prompt = long_text();
    const auto tokens = served_model().tokenize(prompt, true, true);
    for (const MethodInfo& method : list_methods()) {
        Session session(served_model(), {.method = method.name});
        session.prefill(tokens);
        const json report = answer({{"method", method.name}, {"layers", true}}, prompt)["fastkv"];
        ASSERT_EQ(report["layers"].size(), session.layers().size()) << method.name;
        for (size_t i = 0; i < session.layers().size(); ++i) {
            const LayerReport& expected = session.layers()[i];
            const json& layer = report["layers"][i];
            EXPECT_EQ(layer["layer"], i);
            EXPECT_EQ(layer["rows"], expected.rows);
            EXPECT_EQ(layer["cached"], expected.cached);
            EXPECT_EQ(layer["n_head_cached"], expected.n_head_cached);
            std::vector<std::vector<int>> kept;
            for (const json& head : layer["kept"]) kept.push_back(positions_of(head));
            EXPECT_EQ(kept, expected.kept) << method.name << " layer " << i;
            EXPECT_EQ(positions_of(layer["propagated"]), expected.propagated) << method.name << " layer " << i;
        }
    }
}

TEST_F(Page, PiecesAreThePromptsCharacters) {
    const std::string prompt = long_text();
    const auto tokens = served_model().tokenize(prompt, true, true);
    const json pieces = answer({{"layers", true}}, prompt)["fastkv"]["pieces"];
    ASSERT_EQ(pieces.size(), tokens.size());
    std::string text;
    for (const json& piece : pieces) text += piece.get<std::string>();
    EXPECT_EQ(text, served_model().detokenize(tokens, /*special=*/true));
    EXPECT_THAT(text, HasSubstr("5 €, 🐟 alt"));
    // one that ends within a character
    const std::vector<Token> cut(tokens.begin(), tokens.begin() + 4);
    for (const std::string& piece : server::pieces_of(served_model(), cut)) {
        EXPECT_EQ(text::valid_utf8_prefix(piece), piece.size());
    }
}

TEST_F(Page, StreamReportsOnceBeforeTheAnswer) {
    const json body = {{"messages", {{{"role", "user"}, {"content", long_text()}}}},
                       {"max_tokens", 8},
                       {"stream", true},
                       {"fastkv", {{"layers", true}}}};
    std::istringstream lines(request("POST", "/v1/chat/completions", body).body);
    int n_reports = 0, n_texts = 0;
    for (std::string line; std::getline(lines, line);) {
        if (!line.starts_with("data: {")) continue;
        const json chunk = json::parse(line.substr(6));
        const json& delta = chunk["choices"][0]["delta"];
        if (chunk.contains("fastkv") && chunk["fastkv"].contains("layers")) {
            ++n_reports;
            EXPECT_EQ(n_texts, 0);
            EXPECT_EQ(chunk["fastkv"]["pieces"][0], served_model().piece(*served_model().bos_token(), true));
        }
        n_texts += delta.value("content", "").empty() ? 0 : 1;
    }
    EXPECT_EQ(n_reports, 1);
    EXPECT_GT(n_texts, 0);
}

TEST_F(Page, ReportComesOnlyToWhoAsksForIt) {
    EXPECT_FALSE(answer({{"layers", false}}, "short")["fastkv"].contains("layers"));
    EXPECT_FALSE(answer(json::object(), "short")["fastkv"].contains("pieces"));
    const HttpReply wrong = request("POST", "/v1/completions", {{"prompt", "short"}, {"fastkv", {{"layers", "yes"}}}});
    EXPECT_EQ(wrong.status, 400);
    EXPECT_EQ(wrong.json()["error"]["param"], "fastkv.layers");
    // it is no method of the request's own: prompts are still scored by the whole model
    const json scored = {
        {"prompt", "short"}, {"max_tokens", 0}, {"echo", true}, {"logprobs", 0}, {"fastkv", {{"layers", true}}}};
    const HttpReply reply = request("POST", "/v1/completions", scored);
    EXPECT_EQ(reply.status, 200) << reply.body;
    EXPECT_EQ(reply.json()["fastkv"]["method"], "fullkv");
}

}  // namespace
}  // namespace fastkv
