// Sessions on tiny random models: what must hold for any model, any length, any operators.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <thread>

#include "fastkv/fastkv.h"
#include "kernels/gemm.h"
#include "support/compare.h"
#include "support/tiny_model.h"

namespace fastkv {
namespace {

using test::best;
using test::largest_difference;
using test::overlap;
using test::random_tokens;
using test::TinyModel;

Model load(const std::string& path, Compute compute = Compute::f32, Ops ops = Ops::automatic, int n_threads = 2) {
    ModelParams params;
    params.compute = compute;
    params.ops = ops;
    params.n_threads = n_threads;
    return Model::load(path, params);
}

MethodParams fastkv(double retain_rate, double tsp_rate, int window = 8, int kernel = 7) {
    MethodParams params;
    params.retain_rate = retain_rate;
    params.tsp_rate = tsp_rate;
    params.window = window;
    params.kernel = kernel;
    return params;
}

class Sessions : public ::testing::Test {
  protected:
    std::string file_ = test::write_tiny_model(TinyModel{.n_layer = 4});
    Model model_ = load(file_);
};

TEST_F(Sessions, DecodingContinuesThePrefill) {
    const auto tokens = random_tokens(model_, 300);
    Session whole(model_, {.method = "fullkv"});
    whole.prefill(tokens);
    Session step_by_step(model_, {.method = "fullkv"}, {.n_predict = 4});  // the cache must grow on the way
    step_by_step.prefill(std::span(tokens).first(20));
    for (size_t i = 20; i < tokens.size(); ++i) step_by_step.decode(tokens[i]);
    EXPECT_EQ(step_by_step.n_past(), whole.n_past());
    EXPECT_LT(largest_difference(whole.logits(), step_by_step.logits()), 1e-3);
}

TEST_F(Sessions, OnSeveralThreadsShareAModel) {
    const auto logits_of = [&](int seed, std::vector<float>& logits) {
        Session session(model_, fastkv(0.3, 0.5));
        session.prefill(random_tokens(model_, 200 + 20 * seed, uint32_t(seed)));
        for (int i = 0; i < 10; ++i) session.decode(best(session.logits()));
        logits.assign(session.logits().begin(), session.logits().end());
    };
    std::vector<std::vector<float>> alone(6), together(6);  // [session][n_vocab]
    for (int i = 0; i < 6; ++i) logits_of(i, alone[size_t(i)]);
    std::vector<std::jthread> threads;
    for (int i = 0; i < 6; ++i) threads.emplace_back([&, i] { logits_of(i, together[size_t(i)]); });
    threads.clear();  // waits
    EXPECT_EQ(together, alone);
}

TEST_F(Sessions, OnGgmlsOperatorsDecodingContinuesThePrefill) {
    const Model model = load(file_, Compute::f32, Ops::standard);
    const auto tokens = random_tokens(model, 600);
    Session whole(model_, {.method = "fullkv"});
    whole.prefill(tokens);
    Session step_by_step(model, {.method = "fullkv"}, {.n_predict = 4});
    step_by_step.prefill(std::span(tokens).first(20));
    for (size_t i = 20; i < tokens.size(); ++i) step_by_step.decode(tokens[i]);
    EXPECT_LT(largest_difference(whole.logits(), step_by_step.logits()), 1e-3);
}

TEST_F(Sessions, RetainingAllIsFullKv) {
    const auto tokens = random_tokens(model_, 257);
    Session full(model_, {.method = "fullkv"});
    Session all(model_, fastkv(1.0, 1.0));
    full.prefill(tokens);
    all.prefill(tokens);
    for (size_t layer = 0; layer < full.layers().size(); ++layer) {
        EXPECT_EQ(full.layers()[layer].kept, all.layers()[layer].kept);
        EXPECT_TRUE(all.layers()[layer].propagated.empty());
    }
    for (int i = 0; i < 5; ++i) {
        EXPECT_EQ(largest_difference(full.logits(), all.logits()), 0);
        const Token next = best(full.logits());
        full.decode(next);
        all.decode(next);
    }
}

TEST_F(Sessions, CachesTheBudgetOfEveryLayer) {
    for (int n : {81, 200, 1000}) {
        Session session(model_, fastkv(0.1, 0.3));
        session.prefill(random_tokens(model_, n));
        const int propagated = int(n * 0.3);
        for (int layer = 0; layer < 4; ++layer) {
            const LayerReport& report = session.layers()[size_t(layer)];
            const bool above = layer > 1;  // the default TSP layer of 4 is 1
            EXPECT_EQ(report.rows, above ? propagated : n);
            const int budget = above ? int(propagated * (0.1 / 0.3)) : int(n * 0.1);
            EXPECT_EQ(report.cached, budget < 8 ? report.rows : budget) << n << " tokens, layer " << layer;
            EXPECT_EQ(report.propagated.size(), size_t(layer == 1 ? propagated : 0));
            for (int head = 0; head < report.n_head_cached; ++head) {
                const auto& kept = report.kept_by(head);
                EXPECT_TRUE(std::is_sorted(kept.begin(), kept.end()));
                EXPECT_EQ(std::adjacent_find(kept.begin(), kept.end()), kept.end());
                for (int i = 0; i < 8; ++i) EXPECT_EQ(kept[kept.size() - 8 + size_t(i)], n - 8 + i);  // the window
            }
        }
        EXPECT_EQ(session.memory().kv_cache_bytes, estimate(model_, fastkv(0.1, 0.3), n).kv_cache_bytes);
    }
}

TEST_F(Sessions, CachesAreStoredAsTheMethodsDefaultsCountOn) {
    const TinyModel qwen2{.arch = "qwen2", .n_embd = 128, .n_head = 4, .head_dim = 32};
    const Model model = load(test::write_tiny_model(qwen2), Compute::automatic);
    const auto bytes = [](const Model& of, const char* method, CacheType type) {
        MethodParams params{.method = method};
        params.retain_rate = 0.5;
        const SessionParams session{.n_predict = 8, .cache_type_k = type, .cache_type_v = type};
        Session read(of, params, session);
        read.prefill(random_tokens(of, 200));
        EXPECT_EQ(read.memory().kv_cache_bytes, estimate(of, params, 200, session).kv_cache_bytes);
        return read.memory().kv_cache_bytes;
    };
    const uint64_t half = bytes(model, "fastkv", CacheType::f16);
    const HyperParams& hp = model.hparams();
    const uint64_t frames = uint64_t(hp.n_layer * hp.n_head_kv * hp.head_dim) * 2 * sizeof(float);
    // 34 and 18 bytes for 32 keys and values
    EXPECT_EQ((bytes(model, "fastkv", CacheType::automatic) - frames) * 128, half * (34 + 18));
    EXPECT_EQ(bytes(model, "snapkv", CacheType::automatic), bytes(model, "snapkv", CacheType::f16));
    const Model narrow = load(test::write_tiny_model({.arch = "qwen2"}), Compute::automatic);  // heads of 16 values
    EXPECT_EQ(bytes(narrow, "fastkv", CacheType::automatic), bytes(narrow, "fastkv", CacheType::f16));
    const MethodParams fastkv_method;
    EXPECT_EQ(resolve_cache_types({}, fastkv_method, model_), (CacheTypes{CacheType::f32, CacheType::f32}));
    EXPECT_EQ(resolve_cache_types({}, fastkv_method, model), (CacheTypes{CacheType::q8_0, CacheType::q4_0}));
    EXPECT_EQ(resolve_cache_types({.v = CacheType::f16}, fastkv_method, model),
              (CacheTypes{CacheType::q8_0, CacheType::f16}));
}

TEST_F(Sessions, ShortPromptsKeepEverything) {
    for (int n : {1, 2, 7, 8, 9, 40, 79}) {
        Session full(model_, {.method = "fullkv"});
        Session session(model_, fastkv(0.1, 0.1));
        const auto tokens = random_tokens(model_, n);
        full.prefill(tokens);
        session.prefill(tokens);
        for (const LayerReport& report : session.layers()) EXPECT_EQ(report.cached, n);
        EXPECT_EQ(largest_difference(full.logits(), session.logits()), 0) << n;
        session.decode(best(session.logits()));
        EXPECT_EQ(session.n_past(), n + 1);
    }
}

TEST_F(Sessions, PropagationOffKeepsAllRows) {
    MethodParams params;
    params.retain_rate = 0.1;
    params.tsp_layer = TspLayer::off;
    Session session(model_, params);
    Session full(model_, {.method = "fullkv"});
    const auto tokens = random_tokens(model_, 400);
    session.prefill(tokens);
    full.prefill(tokens);
    for (const LayerReport& report : session.layers()) {
        EXPECT_EQ(report.rows, 400);
        EXPECT_EQ(report.cached, 40);
    }
    // compression happens behind the attention: the first token is FullKV's
    EXPECT_EQ(largest_difference(full.logits(), session.logits()), 0);
}

TEST_F(Sessions, ConstantBudgetLeavesShortPromptsAlone) {
    MethodParams params;
    params.budget = 128;
    params.tsp_len = 100;
    Session below(model_, params);
    below.prefill(random_tokens(model_, 127));
    for (const LayerReport& report : below.layers()) EXPECT_EQ(report.cached, 127);
    Session above(model_, params);
    above.prefill(random_tokens(model_, 300));
    EXPECT_EQ(above.layers()[0].cached, 128);
    EXPECT_EQ(above.layers()[1].propagated.size(), 100u);
    EXPECT_EQ(above.layers()[3].cached, 100);  // fewer rows than the budget
}

TEST_F(Sessions, TheLastLayerMayPropagate) {
    MethodParams params = fastkv(0.1, 0.2);
    params.tsp_layer = 3;
    Session session(model_, params);
    Session off(model_, [] {
        MethodParams p;
        p.retain_rate = 0.1;
        p.tsp_layer = TspLayer::off;
        return p;
    }());
    const auto tokens = random_tokens(model_, 200);
    session.prefill(tokens);
    off.prefill(tokens);
    EXPECT_EQ(session.layers()[3].propagated.size(), 40u);
    EXPECT_EQ(largest_difference(session.logits(), off.logits()), 0);
}

struct Shape {
    const char* name;
    TinyModel model;
};

class Operators : public ::testing::TestWithParam<Shape> {};

// fastkv's kernels against ggml's operators, prefill, selection and decoding.
TEST_P(Operators, AgreeInFloat32) {
    const std::string file = test::write_tiny_model(GetParam().model);
    const Model own = load(file, Compute::f32, Ops::automatic);
    const Model ggml = load(file, Compute::f32, Ops::standard);
    const auto tokens = random_tokens(own, 700);
    Session a(own, fastkv(0.15, 0.3)), b(ggml, fastkv(0.15, 0.3));
    a.prefill(tokens);
    b.prefill(tokens);
    EXPECT_GE(overlap(a, b), 0.998);
    for (int i = 0; i < 8; ++i) {
        EXPECT_LT(largest_difference(a.logits(), b.logits()), 2e-2);
        const Token next = best(a.logits());
        a.decode(next);
        b.decode(next);
    }
}

TEST_P(Operators, ThreadsDoNotChangeTheResult) {
    const std::string file = test::write_tiny_model(GetParam().model);
    const auto one = load(file, Compute::automatic, Ops::automatic, 1);
    const auto three = load(file, Compute::automatic, Ops::automatic, 3);
    const auto tokens = random_tokens(one, 500);
    Session a(one, fastkv(0.15, 0.3)), b(three, fastkv(0.15, 0.3));
    a.prefill(tokens);
    b.prefill(tokens);
    EXPECT_GE(overlap(a, b), 0.99);
    a.decode(5);
    b.decode(5);
    EXPECT_LT(largest_difference(a.logits(), b.logits()), 5e-2);
}

TEST_P(Operators, LinearLayersInInt8ComeClose) {
    if (!kernels::gemm_available(kernels::GemmType::int8) || !kernels::gemm_available(kernels::GemmType::bf16)) {
        GTEST_SKIP() << "no products of 8-bit integers here";
    }
    const std::string file = test::write_tiny_model(GetParam().model);
    const Model exact = load(file, Compute::f32, Ops::automatic), rounded = load(file, Compute::int8, Ops::automatic);
    const auto tokens = random_tokens(exact, 500);
    // without a choice of tokens, which a random model's near-ties would turn into another text
    Session a(exact, {.method = "fullkv"}), b(rounded, {.method = "fullkv"});
    a.prefill(tokens);
    b.prefill(tokens);
    double error = 0, size = 0;
    for (size_t i = 0; i < a.logits().size(); ++i) {
        error += std::pow(double(a.logits()[i]) - double(b.logits()[i]), 2);
        size += std::pow(double(a.logits()[i]), 2);
    }
    EXPECT_GT(error, 0);  // it is another arithmetic
    EXPECT_LT(std::sqrt(error / size), 0.08);
    EXPECT_EQ(a.memory().kv_cache_bytes, 2 * b.memory().kv_cache_bytes);  // cached in f16, as with bf16
}

/// What all keys of a head have in common changes no answer, and must not cost q4_0 its few steps: Qwen2's biases are
/// many times as large as what tells its keys apart.
TEST(FourBits, AreNotSpentOnWhatAllKeysHaveInCommon) {
    double error[2];
    for (const float bias : {0.0f, 100.0f}) {
        // positions that are scaled to nothing: rotation would turn the biases apart
        const TinyModel tiny{.n_embd = 128, .head_dim = 32, .qkv_bias = true, .k_bias = bias, .rope_linear = 1e9f};
        const Model model = load(test::write_tiny_model(tiny), Compute::f32, Ops::automatic);
        const auto tokens = random_tokens(model, 200);
        Session exact(model, {.method = "fullkv"});
        Session small(model, {.method = "fullkv"}, {.cache_type_k = CacheType::q4_0});
        exact.prefill(tokens);
        small.prefill(tokens);
        double& difference = error[bias == 0 ? 0 : 1] = 0;
        for (Token token = 10; token < 20; ++token) {
            exact.decode(token);
            small.decode(token);
            for (size_t i = 0; i < exact.logits().size(); ++i) {
                difference += std::pow(double(exact.logits()[i]) - double(small.logits()[i]), 2);
            }
        }
    }
    EXPECT_GT(error[0], 0);
    EXPECT_LT(error[1], 2 * error[0]);
}

TEST_P(Operators, WeightsThatStayGiveTheSameAnswers) {
    const std::string file = test::write_tiny_model(GetParam().model);
    for (const Compute compute : {Compute::f32, Compute::automatic}) {
        ModelParams params{.n_threads = 2, .compute = compute, .expand = Expand::never};
        const Model anew = Model::load(file, params);
        params.expand = Expand::always;
        const Model kept = Model::load(file, params);
        for (const int n_prompt : {300, 40, 200}) {
            const auto tokens = random_tokens(anew, n_prompt);
            Session a(anew, fastkv(0.15, 0.3)), b(kept, fastkv(0.15, 0.3));
            a.prefill(tokens);
            b.prefill(tokens);
            EXPECT_EQ(largest_difference(a.logits(), b.logits()), 0) << n_prompt;
        }
    }
}

TEST(Expanded, IsInTheEstimateUntilItIsThere) {
    const std::string file = test::write_tiny_model({.n_layer = 4});
    const Model anew = Model::load(file, {.compute = Compute::f32});
    const Model kept = Model::load(file, {.compute = Compute::f32, .expand = Expand::always});
    if (!kernels::gemm_available(kernels::GemmType::f32)) GTEST_SKIP() << "nothing is expanded here";
    const auto working = [](const Model& model) { return estimate(model, {.method = "fullkv"}, 300).working_bytes; };
    EXPECT_GT(working(kept), working(anew));
    Session session(kept, {.method = "fullkv"}, {.all_logits = true});
    session.prefill(random_tokens(kept, 300));
    EXPECT_LT(working(kept), working(anew));
}

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

INSTANTIATE_TEST_SUITE_P(Shapes, Operators, ::testing::ValuesIn(shapes()),
                         [](const auto& param) { return param.param.name; });

TEST_F(Sessions, AllLogitsEndWithTheLast) {
    SessionParams params;
    params.all_logits = true;
    const auto tokens = random_tokens(model_, 150);
    Session all(model_, {.method = "fullkv"}, params);
    Session last(model_, {.method = "fullkv"});
    all.prefill(tokens);
    last.prefill(tokens);
    const size_t n_vocab = size_t(model_.hparams().n_vocab);
    ASSERT_EQ(all.all_logits().size(), 150 * n_vocab);
    EXPECT_LT(largest_difference(all.all_logits().last(n_vocab), last.logits()), 1e-3);
    std::vector<float> shown;
    Session showing(model_, {.method = "fullkv"}, {.prompt_logits = [&](int first, std::span<const float> logits) {
                        EXPECT_EQ(size_t(first) * n_vocab, shown.size());
                        shown.insert(shown.end(), logits.begin(), logits.end());
                    }});
    showing.prefill(tokens);
    EXPECT_TRUE(showing.all_logits().empty());
    EXPECT_EQ(shown, std::vector<float>(all.all_logits().begin(), all.all_logits().end()));
    Session propagating(model_, fastkv(0.1, 0.2), params);
    EXPECT_THROW(propagating.prefill(tokens), Error);
}

TEST_F(Sessions, CancellingLeavesTheSessionEmpty) {
    Session session(model_, fastkv(0.2, 0.4));
    const auto tokens = random_tokens(model_, 600);
    int calls = 0;
    try {
        session.prefill(tokens, [&](const PrefillProgress&) { return ++calls < 3; });
        FAIL() << "not cancelled";
    } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::cancelled);
    }
    EXPECT_EQ(calls, 3);
    EXPECT_EQ(session.n_past(), 0);
    EXPECT_THROW(session.decode(4), Error);
    session.prefill(tokens);  // and it can be used again
    Session fresh(model_, fastkv(0.2, 0.4));
    fresh.prefill(tokens);
    EXPECT_EQ(largest_difference(session.logits(), fresh.logits()), 0);
}

TEST_F(Sessions, ProgressReachesItsTotal) {
    Session session(model_, fastkv(0.2, 0.4));
    PrefillProgress last;
    session.prefill(random_tokens(model_, 900), [&](const PrefillProgress& progress) {
        EXPECT_GE(progress.rows_done, last.rows_done);
        EXPECT_LE(progress.rows_done, progress.rows_total);
        last = progress;
        return true;
    });
    EXPECT_EQ(last.rows_done, last.rows_total);
    EXPECT_EQ(last.rows_total, 2 * 900 + 2 * 360);
}

TEST_F(Sessions, RefusesWhatCannotBe) {
    Session session(model_, {.method = "fullkv"}, {.n_ctx = 64});
    EXPECT_THROW(session.prefill({}), Error);
    EXPECT_THROW(session.prefill(std::vector<Token>{1, -1}), Error);
    EXPECT_THROW(session.prefill(std::vector<Token>{1, model_.hparams().n_vocab}), Error);
    EXPECT_THROW(session.prefill(random_tokens(model_, 65)), Error);
    session.prefill(random_tokens(model_, 63));
    session.decode(3);
    EXPECT_THROW(session.decode(3), Error);  // the context is full
    EXPECT_THROW(Session(model_, {.method = "nokv"}), Error);
}

TEST_F(Sessions, PromptsOfOneModelDoNotMeet) {
    Session a(model_, fastkv(0.2, 0.4)), b(model_, fastkv(0.2, 0.4));
    const auto tokens = random_tokens(model_, 300, 1), others = random_tokens(model_, 300, 2);
    a.prefill(tokens);
    b.prefill(others);
    a.decode(7);
    b.decode(9);
    Session alone(model_, fastkv(0.2, 0.4));
    alone.prefill(tokens);
    alone.decode(7);
    EXPECT_EQ(largest_difference(a.logits(), alone.logits()), 0);
}

}  // namespace
}  // namespace fastkv
