// The sampler on made-up logits: what is picked, what never is, and that broken logits break nothing.
#include "fastkv/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <set>

#include "fastkv/error.h"
#include "support/tiny_model.h"

namespace fastkv {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;

const Model& model() {
    static const Model loaded = Model::load(test::write_tiny_model({}));
    return loaded;
}

std::vector<float> random_logits(unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> value(0, 2);
    std::vector<float> logits(size_t(model().hparams().n_vocab));
    for (float& x : logits) x = value(random);
    return logits;
}

Token argmax(const std::vector<float>& logits) {
    return Token(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

std::vector<Token> draw(const SamplerParams& params, int n, unsigned logits_seed = 1) {
    Sampler sampler(model(), params);
    std::vector<Token> tokens;
    for (int i = 0; i < n; ++i) tokens.push_back(sampler.sample(random_logits(logits_seed + unsigned(i))));
    return tokens;
}

SamplerParams warm(uint32_t seed) {
    SamplerParams params;
    params.temperature = 1;
    params.seed = seed;
    return params;
}

TEST(Sampler, IsGreedyWithoutATemperature) {
    for (float temperature : {0.0f, -1.0f, 1e-9f}) {
        SamplerParams params;
        params.temperature = temperature;
        Sampler sampler(model(), params);
        for (unsigned seed = 0; seed < 20; ++seed) {
            const auto logits = random_logits(seed);
            EXPECT_EQ(sampler.sample(logits), argmax(logits));
        }
    }
}

TEST(Sampler, GreedyTakesTheFirstOfEqualLogits) {
    std::vector<float> logits(size_t(model().hparams().n_vocab), 1.0f);
    logits[7] = logits[99] = 2.0f;
    EXPECT_EQ(Sampler(model(), {}).sample(logits), 7);
}

TEST(Sampler, TopKOfOneIsGreedy) {
    SamplerParams params = warm(3);
    params.top_k = 1;
    Sampler sampler(model(), params);
    for (unsigned seed = 0; seed < 20; ++seed) {
        const auto logits = random_logits(seed);
        EXPECT_EQ(sampler.sample(logits), argmax(logits));
    }
}

TEST(Sampler, TheSeedDecides) {
    EXPECT_EQ(draw(warm(5), 50), draw(warm(5), 50));
    EXPECT_NE(draw(warm(5), 50), draw(warm(6), 50));
}

TEST(Sampler, StaysAmongTheBest) {
    SamplerParams params = warm(1);
    params.top_k = 3;
    params.top_p = 1;
    params.min_p = 0;
    Sampler sampler(model(), params);
    const auto logits = random_logits(1);
    std::vector<float> sorted = logits;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    std::set<Token> seen;
    for (int i = 0; i < 300; ++i) {
        const Token token = sampler.sample(logits);
        EXPECT_GE(logits[size_t(token)], sorted[2]);
        seen.insert(token);
    }
    EXPECT_EQ(seen.size(), 3u);
}

TEST(Sampler, MinPAndTopPCutTheTail) {
    std::vector<float> logits(size_t(model().hparams().n_vocab), 0.0f);
    logits[10] = 5;  // 0.32 of the probability; the other 319 share the rest
    SamplerParams min_p = warm(1);
    min_p.top_k = 0;
    min_p.top_p = 1;
    min_p.min_p = 0.5f;
    SamplerParams top_p = min_p;
    top_p.min_p = 0;
    top_p.top_p = 0.3f;
    for (const SamplerParams& params : {min_p, top_p}) {
        Sampler sampler(model(), params);
        for (int i = 0; i < 50; ++i) EXPECT_EQ(sampler.sample(logits), 10);
    }
}

TEST(Sampler, TheRepeatPenaltyMovesOn) {
    std::vector<float> logits(size_t(model().hparams().n_vocab), 0.0f);
    logits[20] = 3;
    logits[21] = 2;
    SamplerParams params;
    Sampler plain(model(), params);
    EXPECT_EQ(plain.sample(logits), 20);
    EXPECT_EQ(plain.sample(logits), 20);
    params.repeat_penalty = 2;
    Sampler penalised(model(), params);
    EXPECT_EQ(penalised.sample(logits), 20);
    EXPECT_EQ(penalised.sample(logits), 21);  // 3 / 2 is below 2
}

TEST(Sampler, IgnoreEosNeverEndsTheAnswer) {
    Token end = -1;
    for (Token token = 0; token < model().hparams().n_vocab; ++token) {
        if (model().is_end_of_generation(token)) end = token;
    }
    ASSERT_GE(end, 0);
    auto logits = random_logits(1);
    logits[size_t(end)] = 1000;
    EXPECT_EQ(Sampler(model(), {}).sample(logits), end);
    SamplerParams greedy;
    greedy.ignore_eos = true;
    SamplerParams sampled = warm(1);
    sampled.ignore_eos = true;
    for (const SamplerParams& params : {greedy, sampled}) {
        Sampler sampler(model(), params);
        for (int i = 0; i < 50; ++i) EXPECT_FALSE(model().is_end_of_generation(sampler.sample(logits)));
    }
}

TEST(Sampler, BrokenLogitsStillGiveAToken) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const float infinity = std::numeric_limits<float>::infinity();
    SamplerParams penalised = warm(1);
    penalised.repeat_penalty = 1.5f;
    SamplerParams cold = warm(1);
    cold.temperature = 1e-4f;
    for (const SamplerParams& params : {SamplerParams{}, warm(1), penalised, cold}) {
        for (float broken : {nan, infinity, -infinity}) {
            Sampler sampler(model(), params);
            const std::vector<float> logits(size_t(model().hparams().n_vocab), broken);
            for (int i = 0; i < 5; ++i) {
                const Token token = sampler.sample(logits);
                EXPECT_GE(token, 0);
                EXPECT_LT(token, model().hparams().n_vocab);
            }
        }
    }
    auto logits = random_logits(2);
    std::fill(logits.begin() + 10, logits.end(), nan);
    const Token best = Token(std::max_element(logits.begin(), logits.begin() + 10) - logits.begin());
    EXPECT_EQ(Sampler(model(), {}).sample(logits), best);
}

std::string refusal(const SamplerParams& params) {
    try {
        Sampler sampler(model(), params);
    } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::usage);
        return error.what();
    }
    return "";
}

TEST(Sampler, RefusesParametersOutOfRange) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const auto with = [](auto set) {
        SamplerParams params;
        set(params);
        return refusal(params);
    };
    EXPECT_EQ(refusal({}), "");
    EXPECT_THAT(with([&](SamplerParams& p) { p.temperature = nan; }), HasSubstr("--temp"));
    EXPECT_THAT(with([](SamplerParams& p) { p.top_k = -1; }), HasSubstr("--top-k -1"));
    EXPECT_THAT(with([](SamplerParams& p) { p.top_p = 1.5f; }), HasSubstr("--top-p 1.5 is outside [0, 1]"));
    EXPECT_THAT(with([&](SamplerParams& p) { p.top_p = nan; }), HasSubstr("--top-p"));
    EXPECT_THAT(with([](SamplerParams& p) { p.min_p = -0.5f; }), HasSubstr("--min-p -0.5"));
    EXPECT_THAT(with([](SamplerParams& p) { p.repeat_penalty = 0; }), HasSubstr("--repeat-penalty 0"));
    EXPECT_THAT(with([](SamplerParams& p) { p.repeat_last_n = -1; }), HasSubstr("--repeat-last-n"));
}

TEST(Samplers, PenaltiesMakeWhatWasSaidLessLikely) {
    auto logits = random_logits(5);
    const Token best = argmax(logits);
    logits[size_t(best)] = 10;
    const Token second = best == 0 ? 1 : 0;
    logits[size_t(second)] = 8.5;
    Sampler present(model(), {.presence_penalty = 2});
    EXPECT_EQ(present.sample(logits), best);
    EXPECT_EQ(present.sample(logits), second);
    EXPECT_EQ(present.sample(logits), best);  // each is taken once: 8 against 6.5
    Sampler often(model(), {.frequency_penalty = 1});
    EXPECT_EQ(often.sample(logits), best);
    EXPECT_EQ(often.sample(logits), best);
    EXPECT_EQ(often.sample(logits), second);  // 8 against 8.5
    EXPECT_THROW(Sampler(model(), {.presence_penalty = 3}), Error);
}

}  // namespace
}  // namespace fastkv
