// Sessions that decode together: each gets what it would get alone, whatever the others are, and fails alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>

#include "fastkv/fastkv.h"
#include "kernels/quantized_linear.h"
#include "support/compare.h"
#include "support/tiny_model.h"
#include "support/variants.h"

namespace fastkv {
namespace {

// Of logits, where sums are taken in another order: a key or value may then round to the float16 on its other side.
constexpr double rounding = 5e-3;

using test::largest_difference;
using test::TinyModel;
using ::testing::HasSubstr;

struct Shape {
    const char* name;
    TinyModel model;
    Ops ops = Ops::automatic;
    Compute compute = Compute::f32;  // with which weights become float32
    int n_threads = 2;
    bool few_rows_are_own = false;  // all linear layers are of types that fastkv multiplies itself
};

std::ostream& operator<<(std::ostream& out, const Shape& shape) { return out << shape.name; }

std::vector<Shape> shapes() {
    const auto of_blocks = [](ggml_type type) { return TinyModel{.n_layer = 4, .n_ff = 128, .type = type}; };
    const TinyModel qwen2{
        .arch = "qwen2", .n_layer = 4, .n_embd = 224, .n_head = 7, .n_head_kv = 1, .head_dim = 32, .qkv_bias = true};
    return {
        {"Q4_0", of_blocks(GGML_TYPE_Q4_0), Ops::automatic, Compute::automatic, 2, true},
        {"Q5_0", of_blocks(GGML_TYPE_Q5_0), Ops::automatic, Compute::automatic, 1, true},
        {"Float32", TinyModel{.n_layer = 4}},
        {"Qwen2", qwen2},
        {"SlidingWindow", TinyModel{.n_layer = 4, .sliding_window = 100}},
        {"StandardOps", of_blocks(GGML_TYPE_Q8_0), Ops::standard, Compute::automatic},
        {"StandardOpsSlidingWindow", TinyModel{.n_layer = 4, .sliding_window = 100}, Ops::standard},
    };
}

/// A session and its twin, which decodes by itself.
struct Pair {
    std::string name;
    std::unique_ptr<Session> together, alone;
};

class Together : public ::testing::TestWithParam<Shape> {
  protected:
    Pair begin(const std::string& name, const MethodParams& method, int n_prompt, const SessionParams& params) {
        Pair pair{name, std::make_unique<Session>(model_, method, params),
                  std::make_unique<Session>(model_, method, params)};
        const auto prompt = test::random_tokens(model_.hparams().n_vocab, n_prompt, uint32_t(n_prompt));
        pair.together->prefill(prompt);
        pair.alone->prefill(prompt);
        return pair;
    }

    /// A random token for each, in one pass and one by one.
    void step(std::vector<Pair*> pairs) {
        std::vector<Session*> sessions;
        for (Pair* pair : pairs) sessions.push_back(pair->together.get());
        const auto tokens = test::random_tokens(model_.hparams().n_vocab, int(pairs.size()), uint32_t(random_()));
        for (const std::exception_ptr& error : batch_.decode(sessions, tokens)) ASSERT_FALSE(error);
        for (size_t i = 0; i < pairs.size(); ++i) {
            SCOPED_TRACE(pairs[i]->name);
            const Session& together = *pairs[i]->together;
            Session& alone = *pairs[i]->alone;
            alone.decode(tokens[i]);
            const double limit = GetParam().few_rows_are_own && kernels::quantized_available() ? 0 : rounding;
            ASSERT_LE(largest_difference(alone.logits(), together.logits()), limit);
            ASSERT_LE(largest_difference(alone.hidden(), together.hidden()), limit);
            ASSERT_EQ(alone.n_past(), together.n_past());
            ASSERT_EQ(alone.decode_stats().tokens, together.decode_stats().tokens);
            for (int layer = 0; layer < model_.hparams().n_layer; ++layer) {
                for (int head = 0; head < alone.n_head_cached(layer); ++head) {
                    ASSERT_EQ(alone.cached_positions(layer, head), together.cached_positions(layer, head));
                }
            }
        }
    }

    Model model_ =
        Model::load(test::write_tiny_model(GetParam().model),
                    {.n_threads = GetParam().n_threads, .compute = GetParam().compute, .ops = GetParam().ops});
    Batch batch_{model_};
    std::mt19937 random_{5};
};

// All methods and variants, a few at a time: they come and go, their caches grow past what was set aside.
TEST_P(Together, SessionsOfAllMethodsDecodeAsAlone) {
    std::vector<Pair> pairs;
    for (const test::Variant& variant : test::variants()) {
        const int n_prompt = 20 + int(random_() % 300);
        pairs.push_back(begin(variant.name, variant.params(), n_prompt, {.n_predict = 3}));
    }
    std::shuffle(pairs.begin(), pairs.end(), random_);
    std::vector<Pair*> active;
    size_t next = 0;
    while (next < pairs.size() || !active.empty()) {
        const size_t wanted = 1 + random_() % 9;
        while (active.size() < wanted && next < pairs.size()) active.push_back(&pairs[next++]);
        const int n_step = 1 + int(random_() % 6);
        for (int i = 0; i < n_step; ++i) ASSERT_NO_FATAL_FAILURE(step(active));
        active.erase(active.begin() + ptrdiff_t(random_() % active.size()));
    }
}

// Alone and together in turns; a later turn in between.
TEST_P(Together, SessionsMayDecodeByThemselvesInBetween) {
    MethodParams rolling{.method = "streamingllm", .retain_rate = 0.2};
    rolling.streaming = Streaming::rolling;
    Pair a = begin("rolling", rolling, 60, {.n_predict = 2});
    Pair b = begin("fastkv", {.method = "fastkv"}, 250, {});
    Pair c = begin("fullkv", {.method = "fullkv"}, 300, {.n_predict = 1});
    for (int i = 0; i < 4; ++i) {
        ASSERT_NO_FATAL_FAILURE(step({&a, &b, &c}));
        for (Pair* pair : {&a, &b, &c}) {
            for (Session* session : {pair->together.get(), pair->alone.get()}) {
                session->decode(20 + i);
                if (pair != &a) session->extend(std::vector<Token>(3, 30));
            }
        }
        ASSERT_NO_FATAL_FAILURE(step({&c, &a}));
    }
}

TEST_P(Together, AttentionIsRecordedForEach) {
    Pair a = begin("fastkv", {.method = "fastkv"}, 120, {.record_attention = true});
    Pair b = begin("fullkv", {.method = "fullkv"}, 90, {.record_attention = true});
    for (int i = 0; i < 3; ++i) ASSERT_NO_FATAL_FAILURE(step({&a, &b}));
    for (const Pair* pair : {&a, &b}) {
        for (int layer = 0; layer < model_.hparams().n_layer; ++layer) {
            EXPECT_LE(
                largest_difference(pair->alone->recorded_attention(layer), pair->together->recorded_attention(layer)),
                rounding);
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Together, ::testing::ValuesIn(shapes()),
                         [](const auto& param) { return std::string(param.param.name); });

// ---- what fails, fails alone ------------------------------------------------------------------------------------

class Batches : public ::testing::Test {
  protected:
    Session session(int n_prompt, const SessionParams& params = {}) {
        Session session(model_, {.method = "fullkv"}, params);
        session.prefill(test::random_tokens(model_.hparams().n_vocab, n_prompt));
        return session;
    }
    std::string message(const std::exception_ptr& error) {
        try {
            if (error) std::rethrow_exception(error);
        } catch (const Error& e) {
            return e.what();
        }
        return "";
    }

    Model model_ = Model::load(test::write_tiny_model({}), {.n_threads = 1});
    Batch batch_{model_};
};

TEST_F(Batches, AFailureIsTheSessionsOwn) {
    Session good = session(30), full = session(40, {.n_ctx = 40}), wrong = session(20), alone = session(30);
    Session empty(model_, {.method = "fullkv"});
    Session* const all[] = {&full, &good, &wrong, &empty};
    const std::vector<Token> tokens = {5, 6, model_.hparams().n_vocab, 7};
    const auto errors = batch_.decode(all, tokens);
    ASSERT_EQ(errors.size(), 4u);
    EXPECT_THAT(message(errors[0]), HasSubstr("context of 40 tokens is full"));
    EXPECT_FALSE(errors[1]);
    EXPECT_THAT(message(errors[2]), HasSubstr("outside the vocabulary"));
    EXPECT_THAT(message(errors[3]), HasSubstr("prefill() first"));
    alone.decode(6);
    EXPECT_EQ(largest_difference(good.logits(), alone.logits()), 0);
    EXPECT_EQ(wrong.n_past(), 20);
    wrong.decode(5);  // it may go on
    EXPECT_EQ(wrong.n_past(), 21);
}

TEST_F(Batches, WhatCannotBeOneIsRefused) {
    Session a = session(30), b = session(30);
    const Model other = Model::load(test::write_tiny_model({}), {.n_threads = 1});
    Session stranger(other, {.method = "fullkv"});
    stranger.prefill(std::vector<Token>{5, 6});
    const std::vector<Token> two = {5, 6};
    Session* const twice[] = {&a, &a};
    Session* const mixed[] = {&a, &stranger};
    Session* const both[] = {&a, &b};
    EXPECT_THROW(batch_.decode(twice, two), Error);
    EXPECT_THROW(batch_.decode(mixed, two), Error);
    EXPECT_THROW(batch_.decode(both, std::span(two).first(1)), Error);
    EXPECT_EQ(a.n_past(), 30);
    EXPECT_TRUE(batch_.decode({}, {}).empty());
    EXPECT_EQ(batch_.decode(both, two).size(), 2u);
}

// A session that has gone may have had the place in memory that the next one gets.
TEST_F(Batches, SessionsThatHaveGoneLeaveNothing) {
    for (int n_prompt = 20; n_prompt < 40; ++n_prompt) {
        Session a = session(n_prompt), b = session(60 - n_prompt), alone = session(n_prompt);
        Session* const both[] = {&a, &b};
        for (const Token token : {5, 6}) {
            const std::vector<Token> tokens(2, token);
            for (const std::exception_ptr& error : batch_.decode(both, tokens)) EXPECT_FALSE(error);
            alone.decode(token);
        }
        EXPECT_LT(largest_difference(a.logits(), alone.logits()), rounding);
    }
}

}  // namespace
}  // namespace fastkv
