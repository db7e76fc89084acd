// Later turns of a conversation: reading a turn in one piece is decoding it token by token, and a cache that is cut
// again holds what a prompt of the same length would have left.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <utility>

#include "fastkv/fastkv.h"
#include "support/compare.h"
#include "support/tiny_model.h"

namespace fastkv {
namespace {

using test::best;
using test::largest_difference;
using test::random_tokens;
using test::TinyModel;
using ::testing::Each;
using ::testing::HasSubstr;

Model load(const std::string& path, Compute compute = Compute::f32, Ops ops = Ops::automatic, int n_threads = 1) {
    ModelParams params;
    params.compute = compute;
    params.ops = ops;
    params.n_threads = n_threads;
    return Model::load(path, params);
}

/// A method and parameters as on the command line: {"retain_rate", "0.2"}.
MethodParams method(const std::string& name, const std::vector<std::pair<std::string, std::string>>& values = {}) {
    MethodParams params;
    params.method = name;
    for (const auto& [param, value] : values) set_param(params, param, value);
    return params;
}

/// What every cached head of a layer holds, ascending.
std::vector<std::vector<int>> held(const Session& session, int layer) {
    std::vector<std::vector<int>> heads;
    for (int head = 0; head < session.n_head_cached(layer); ++head) {
        heads.push_back(session.cached_positions(layer, head));
        std::ranges::sort(heads.back());
    }
    return heads;
}

void expect_same_cache(const Session& a, const Session& b) {
    for (int layer = 0; layer < int(a.layers().size()); ++layer) {
        EXPECT_EQ(held(a, layer), held(b, layer)) << "layer " << layer;
    }
}

void extend_one_by_one(Session& session, std::span<const Token> turn) {
    for (const Token token : turn) session.decode(token);
}

ErrorKind kind_of(const std::function<void()>& call, std::string* message = nullptr) {
    try {
        call();
    } catch (const Error& error) {
        if (message) *message = error.what();
        return error.kind();
    }
    ADD_FAILURE() << "nothing was thrown";
    return ErrorKind::failure;
}

// ---- every shape of model, both sets of operators ---------------------------------------------------------------

struct Shape {
    const char* name;
    TinyModel model;
};

std::vector<Shape> shapes() {
    return {
        {"Llama", TinyModel{.n_layer = 4}},
        {"OddHeads", TinyModel{.n_layer = 3, .n_embd = 96, .n_head = 6, .n_head_kv = 2, .head_dim = 20}},
        {"Qwen2", TinyModel{.arch = "qwen2",
                            .n_layer = 3,
                            .n_embd = 224,
                            .n_head = 7,
                            .n_head_kv = 1,
                            .head_dim = 32,
                            .qkv_bias = true}},
        {"SlidingWindow", TinyModel{.n_layer = 3, .sliding_window = 100}},
        {"Quantised", TinyModel{.n_layer = 3, .type = GGML_TYPE_Q8_0}},
    };
}

class Turns : public ::testing::TestWithParam<std::tuple<Shape, Ops>> {
  protected:
    std::string file_ = test::write_tiny_model(std::get<0>(GetParam()).model);
    Model model_ = load(file_, Compute::f32, std::get<1>(GetParam()));
};

TEST_P(Turns, WithAFullCacheAreOnePrompt) {
    const auto tokens = random_tokens(model_, 420);
    Session whole(model_, method("fullkv"));
    whole.prefill(tokens);
    Session turns(model_, method("fullkv"), {.n_predict = 1});  // the caches must grow
    turns.prefill(std::span(tokens).first(200));
    turns.extend(std::span(tokens).subspan(200, 150));
    turns.extend(std::span(tokens).subspan(350, 3));
    turns.decode(tokens[353]);
    turns.extend(std::span(tokens).subspan(354, 1));
    turns.extend(std::span(tokens).subspan(355));
    EXPECT_EQ(turns.n_past(), 420);
    EXPECT_LT(largest_difference(whole.logits(), turns.logits()), 2e-3);
    expect_same_cache(whole, turns);
    for (int i = 0; i < 5; ++i) {
        const Token next = best(whole.logits());
        whole.decode(next);
        turns.decode(next);
        EXPECT_LT(largest_difference(whole.logits(), turns.logits()), 2e-3);
    }
}

std::vector<MethodParams> variants() {
    return {
        method("fastkv", {{"retain_rate", "0.15"}, {"tsp_rate", "0.3"}}),
        method("fastkv", {{"retain_rate", "0.15"}, {"tsp_rate", "0.3"}, {"score", "expected"}}),
        method("fastkv", {{"budget", "40"}, {"tsp_len", "60"}, {"layer_budget", "pyramid"}}),
        method("snapkv", {{"retain_rate", "0.2"}, {"select_per", "query-head"}}),
        method("snapkv", {{"retain_rate", "0.2"}, {"head_floor", "0.2"}}),
        method("snapkv", {{"retain_rate", "0.2"}, {"head_floor", "0"}, {"select_per", "query-head"}}),
        method("h2o", {{"retain_rate", "0.2"}}),
        method("h2o", {{"retain_rate", "0.2"}, {"h2o_decode", "evict"}}),
        method("gemfilter", {{"retain_rate", "0.2"}}),
        method("pyramidinfer"),
        method("streamingllm", {{"retain_rate", "0.2"}}),
        method("streamingllm", {{"retain_rate", "0.2"}, {"streaming", "rolling"}}),
    };
}

TEST_P(Turns, AfterACompressedPromptAreDecodedTokens) {
    const auto prompt = random_tokens(model_, 220, 2), turn = random_tokens(model_, 90, 3);
    for (const MethodParams& params : variants()) {
        SCOPED_TRACE(params.method + " " + param_text(params, "select_per") + param_text(params, "head_floor") +
                     param_text(params, "score") + param_text(params, "streaming") + param_text(params, "h2o_decode"));
        Session piece(model_, params), tokens(model_, params, {.n_predict = 3});
        for (Session* session : {&piece, &tokens}) {
            session->prefill(prompt);
            session->decode(7);
        }
        const size_t cached = piece.cached_positions(0, 0).size();
        EXPECT_LT(cached, params.method == "pyramidinfer" ? 222u : 221u);
        piece.extend(turn);
        extend_one_by_one(tokens, turn);
        EXPECT_EQ(piece.n_past(), tokens.n_past());
        EXPECT_LT(largest_difference(piece.logits(), tokens.logits()), 2e-3);
        expect_same_cache(piece, tokens);
        for (int i = 0; i < 3; ++i) {
            const Token next = best(tokens.logits());
            piece.decode(next);
            tokens.decode(next);
            EXPECT_LT(largest_difference(piece.logits(), tokens.logits()), 2e-3);
        }
    }
}

// Nothing is cut until a turn takes the cache past its budget. Then all that the text has is there to choose from, the
// last tokens score, and the choice is that of one prompt (but for --kernel auto: a turn knows no spans).
TEST_P(Turns, AreCutAsOnePromptWouldBe) {
    const auto tokens = random_tokens(model_, 150, 4);
    const std::vector<MethodParams> cutting = {
        method("fastkv", {{"budget", "100"}, {"tsp_layer", "off"}, {"kernel", "7"}}),
        method("snapkv", {{"budget", "100"}, {"layer_budget", "pyramid"}, {"kernel", "3"}, {"pooling", "avg"}}),
        method("snapkv", {{"budget", "100"}, {"select_per", "query-head"}}),
        method("streamingllm", {{"budget", "100"}}),
    };
    for (const MethodParams& params : cutting) {
        SCOPED_TRACE(params.method + " " + param_text(params, "select_per"));
        Session whole(model_, params), turns(model_, params);
        whole.prefill(tokens);
        turns.prefill(std::span(tokens).first(95));
        turns.extend(std::span(tokens).subspan(95), /*recompress=*/true);
        EXPECT_LT(largest_difference(whole.logits(), turns.logits()), 2e-3);
        expect_same_cache(whole, turns);
        for (int i = 0; i < 4; ++i) {
            const Token next = best(whole.logits());
            whole.decode(next);
            turns.decode(next);
            EXPECT_LT(largest_difference(whole.logits(), turns.logits()), 2e-3);
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Models, Turns,
                         ::testing::Combine(::testing::ValuesIn(shapes()),
                                            ::testing::Values(Ops::automatic, Ops::standard)),
                         [](const auto& param) {
                             const bool own = std::get<1>(param.param) == Ops::automatic;
                             return std::string(std::get<0>(param.param).name) + (own ? "" : "OnGgmlsOperators");
                         });

// ---- how the cache is stored ------------------------------------------------------------------------------------

struct Storage {
    const char* name;
    Compute compute;
    CacheType k, v;
    double tolerance;
};

class StoredTurns : public ::testing::TestWithParam<Storage> {};

TEST_P(StoredTurns, AreDecodedTokens) {
    const std::string file = test::write_tiny_model({.n_layer = 3, .n_embd = 128, .head_dim = 32});
    for (const Ops ops : {Ops::automatic, Ops::standard}) {
        const Model model = load(file, GetParam().compute, ops);
        const SessionParams stored{.cache_type_k = GetParam().k, .cache_type_v = GetParam().v};
        const auto prompt = random_tokens(model, 300, 5), turn = random_tokens(model, 64, 6);
        for (const char* floor : {"1", "0.2"}) {
            const MethodParams params = method("snapkv", {{"retain_rate", "0.3"}, {"head_floor", floor}});
            Session piece(model, params, stored), tokens(model, params, stored);
            piece.prefill(prompt);
            tokens.prefill(prompt);
            piece.extend(turn);
            extend_one_by_one(tokens, turn);
            expect_same_cache(piece, tokens);
            EXPECT_LT(largest_difference(piece.logits(), tokens.logits()), GetParam().tolerance);
        }
    }
}

TEST_P(StoredTurns, AreCutInTheirStorage) {
    const std::string file = test::write_tiny_model({.n_layer = 3, .n_embd = 128, .head_dim = 32});
    const Model model = load(file, GetParam().compute);
    const SessionParams stored{.n_predict = 10, .cache_type_k = GetParam().k, .cache_type_v = GetParam().v};
    const MethodParams params = method("snapkv", {{"budget", "100"}});
    Session turns(model, params, stored), whole(model, params, stored);
    turns.prefill(random_tokens(model, 90, 5));
    turns.extend(random_tokens(model, 110, 6), /*recompress=*/true);
    whole.prefill(random_tokens(model, 200, 7));
    EXPECT_EQ(turns.memory().kv_cache_bytes, whole.memory().kv_cache_bytes);
    turns.decode(9);
    EXPECT_EQ(turns.cached_positions(0, 0).size(), 101u);
}

INSTANTIATE_TEST_SUITE_P(Types, StoredTurns,
                         ::testing::Values(Storage{"F16", Compute::f32, CacheType::f16, CacheType::f16, 2e-2},
                                           Storage{"Q8", Compute::f32, CacheType::q8_0, CacheType::q8_0, 1e-1},
                                           Storage{"Q5", Compute::f32, CacheType::q5_0, CacheType::q5_0, 3e-1},
                                           Storage{"Q4", Compute::f32, CacheType::q4_0, CacheType::q4_0, 5e-1},
                                           Storage{"Mixed", Compute::f32, CacheType::q8_0, CacheType::f32, 1e-1},
                                           Storage{"Bf16Products", Compute::automatic, CacheType::automatic,
                                                   CacheType::automatic, 3e-1}),
                         [](const auto& param) { return param.param.name; });

// ---- cutting again ----------------------------------------------------------------------------------------------

class Extending : public ::testing::Test {
  protected:
    std::string file_ = test::write_tiny_model(TinyModel{.n_layer = 4});
    Model model_ = load(file_);
};

std::vector<MethodParams> recompressing() {
    return {
        method("fastkv", {{"retain_rate", "0.15"}, {"tsp_rate", "0.3"}}),
        method("fastkv", {{"retain_rate", "0.2"}, {"tsp_rate", "0.2"}}),  // all that goes on is cached
        method("fastkv", {{"budget", "60"}, {"tsp_len", "40"}}),          // less goes on than fits
        method("fastkv", {{"retain_rate", "0.15"}, {"tsp_rate", "0.3"}, {"layer_budget", "pyramid"}}),
        method("fastkv", {{"retain_rate", "0.15"}, {"tsp_rate", "0.3"}, {"kernel", "auto"}}),
        method("snapkv", {{"retain_rate", "0.1"}, {"select_per", "query-head"}}),
        method("snapkv",
               {{"retain_rate", "0.2"}, {"tsp_rate", "0.2"}, {"tsp_layer", "1"}, {"select_per", "query-head"}}),
        method("h2o", {{"retain_rate", "0.2"}}),
        method("h2o", {{"retain_rate", "0.2"}, {"h2o_mask", "reference"}}),
        method("streamingllm", {{"retain_rate", "0.2"}}),
    };
}

TEST_F(Extending, AgainAndAgainStaysWithinTheBudgetOfOnePrompt) {
    for (const MethodParams& params : recompressing()) {
        Session session(model_, params, {.n_predict = 8});
        session.prefill(random_tokens(model_, 200));
        for (const int n_turn : {60, 3, 110}) {  // 3: fewer than the window that scores
            SCOPED_TRACE(params.method + ", a turn of " + std::to_string(n_turn));
            for (int i = 0; i < 5; ++i) session.decode(best(session.logits()));
            session.extend(random_tokens(model_, n_turn, 8), /*recompress=*/true);
            Session whole(model_, params, {.n_predict = 8});
            whole.prefill(random_tokens(model_, session.n_past()));
            for (int layer = 0; layer < 4; ++layer) {
                for (const auto& positions : held(session, layer)) {
                    EXPECT_EQ(int(positions.size()), whole.layers()[size_t(layer)].cached) << "layer " << layer;
                    EXPECT_EQ(std::ranges::adjacent_find(positions), positions.end());
                    const int sinks = session.method().sinks.value_or(0), window = session.method().window.value_or(8);
                    for (int i = 0; i < sinks; ++i) EXPECT_EQ(positions[size_t(i)], i);
                    for (int i = 1; i <= window; ++i) {
                        EXPECT_EQ(positions[positions.size() - size_t(i)], session.n_past() - i);
                    }
                }
            }
        }
        session.decode(5);
        EXPECT_THAT(std::vector<float>(session.logits().begin(), session.logits().end()),
                    Each(::testing::Truly([](float x) { return std::isfinite(x); })));
    }
}

TEST_F(Extending, ChoosesTheSameOnGgmlsOperators) {
    const Model standard = load(file_, Compute::f32, Ops::standard);
    for (const MethodParams& params : recompressing()) {
        SCOPED_TRACE(params.method);
        size_t both = 0, all = 0;
        Session a(model_, params), b(standard, params);
        for (Session* session : {&a, &b}) {
            session->prefill(random_tokens(model_, 250));
            session->extend(random_tokens(model_, 100, 9), /*recompress=*/true);
        }
        for (int layer = 0; layer < 4; ++layer) {
            const auto of_a = held(a, layer), of_b = held(b, layer);
            ASSERT_EQ(of_a.size(), of_b.size());
            for (size_t head = 0; head < of_a.size(); ++head) {
                both += test::common(of_a[head], of_b[head]);
                all += of_a[head].size();
            }
        }
        EXPECT_GE(double(both), 0.998 * double(all));
    }
}

TEST_F(Extending, WithinTheBudgetCutsNothing) {
    const MethodParams params = method("snapkv", {{"budget", "300"}});
    Session cut(model_, params), kept(model_, params);
    for (Session* session : {&cut, &kept}) session->prefill(random_tokens(model_, 120));
    cut.extend(random_tokens(model_, 50, 2), /*recompress=*/true);
    kept.extend(random_tokens(model_, 50, 2));
    EXPECT_EQ(largest_difference(cut.logits(), kept.logits()), 0);
    expect_same_cache(cut, kept);
}

TEST_F(Extending, RefusesToCutWhatCannotBeChosenAgain) {
    const std::pair<MethodParams, const char*> cases[] = {
        {method("fullkv"), "keeps everything"},
        {method("fastkv", {{"retain_rate", "1"}}), "keeps everything"},
        {method("gemfilter"), "gemfilter"},
        {method("pyramidinfer"), "pyramidinfer"},
        {method("fastkv", {{"score", "expected"}}), "--score window"},
        {method("snapkv", {{"head_floor", "0.5"}}), "--head-floor 1"},
        {method("h2o", {{"h2o_decode", "evict"}}), "h2o"},
        {method("streamingllm", {{"streaming", "rolling"}}), "streamingllm"},
    };
    for (const auto& [params, word] : cases) {
        SCOPED_TRACE(params.method);
        Session session(model_, params);
        std::string message;
        EXPECT_EQ(kind_of([&] { session.check_recompress(); }, &message), ErrorKind::usage);
        EXPECT_THAT(message, HasSubstr("--recompress"));
        EXPECT_THAT(message, HasSubstr(word));
        session.prefill(random_tokens(model_, 30));
        EXPECT_EQ(kind_of([&] { session.extend(random_tokens(model_, 5), true); }), ErrorKind::usage);
        session.extend(random_tokens(model_, 5));  // and nothing is lost
        EXPECT_GT(session.n_past(), 0);
    }
}

// ---- positions, errors ------------------------------------------------------------------------------------------

TEST_F(Extending, NewEntriesFollowWhatTheReaderSaw) {
    for (const char* name : {"fastkv", "gemfilter"}) {
        Session session(model_, method(name, {{"retain_rate", "0.2"}}));
        session.prefill(random_tokens(model_, 200));
        session.extend(random_tokens(model_, 20, 2));
        for (int layer = 0; layer < 4; ++layer) {
            for (const auto& positions : held(session, layer)) {
                std::vector<int> last(positions.end() - 20, positions.end()), wanted(20);
                std::iota(wanted.begin(), wanted.end(), 200);
                EXPECT_EQ(last, wanted) << name;
                EXPECT_LT(positions[positions.size() - 21], 200);
            }
        }
    }
}

TEST_F(Extending, TellsHowFarItIs) {
    Session session(model_, method("fastkv"));
    session.prefill(random_tokens(model_, 100));
    PrefillProgress last;
    session.extend(random_tokens(model_, 700), false, [&](const PrefillProgress& progress) {
        EXPECT_GE(progress.rows_done, last.rows_done);
        last = progress;
        return true;
    });
    EXPECT_EQ(last.rows_total, 4 * 700);
    EXPECT_EQ(last.rows_done, last.rows_total);
    EXPECT_EQ(session.prefill_stats().tokens, 700);
    EXPECT_EQ(session.n_prompt(), 100);
}

TEST_F(Extending, ThreadsDoNotChangeATurn) {
    const Model three = load(file_, Compute::f32, Ops::automatic, 3);
    Session a(model_, method("snapkv", {{"budget", "50"}})), b(three, method("snapkv", {{"budget", "50"}}));
    for (Session* session : {&a, &b}) {
        session->prefill(random_tokens(model_, 60));
        session->extend(random_tokens(model_, 40, 2), /*recompress=*/true);
    }
    EXPECT_LT(largest_difference(a.logits(), b.logits()), 1e-3);
    expect_same_cache(a, b);
}

TEST_F(Extending, CancelledLeavesTheSessionEmpty) {
    for (const MethodParams& params : {method("fastkv"), method("h2o", {{"h2o_decode", "evict"}})}) {
        Session session(model_, params);
        session.prefill(random_tokens(model_, 100));
        int calls = 0;
        const auto stop = [&](const PrefillProgress&) { return ++calls < 3; };
        EXPECT_EQ(kind_of([&] { session.extend(random_tokens(model_, 50), false, stop); }), ErrorKind::cancelled);
        EXPECT_EQ(calls, 3);
        EXPECT_EQ(session.n_past(), 0);
        EXPECT_EQ(kind_of([&] { session.decode(4); }), ErrorKind::usage);
        EXPECT_EQ(kind_of([&] { session.extend(random_tokens(model_, 5)); }), ErrorKind::usage);
        session.prefill(random_tokens(model_, 100));
        session.extend(random_tokens(model_, 50));
        EXPECT_EQ(session.n_past(), 150);
    }
}

TEST_F(Extending, RefusesATurnThatCannotBeAndGoesOn) {
    Session session(model_, method("fullkv"), {.n_ctx = 64});
    std::string message;
    EXPECT_EQ(kind_of([&] { session.extend(random_tokens(model_, 5)); }), ErrorKind::usage);
    session.prefill(random_tokens(model_, 50));
    EXPECT_EQ(kind_of([&] { session.extend({}); }), ErrorKind::usage);
    EXPECT_EQ(kind_of([&] { session.extend(std::vector<Token>{5, -1}); }), ErrorKind::usage);
    EXPECT_EQ(kind_of([&] { session.extend(random_tokens(model_, 15)); }, &message), ErrorKind::failure);
    EXPECT_THAT(message, HasSubstr("65 tokens, the context holds 64"));
    EXPECT_EQ(session.n_past(), 50);
    session.extend(random_tokens(model_, 14));
    EXPECT_EQ(session.n_past(), 64);
    EXPECT_EQ(kind_of([&] { session.decode(3); }), ErrorKind::failure);
}

}  // namespace
}  // namespace fastkv
