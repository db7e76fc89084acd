// Methods: parameters that are filled in and refused, budgets, and selection against naive models of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "fastkv/error.h"
#include "methods/schedule.h"
#include "methods/select.h"

namespace fastkv {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::FloatNear;
using testing::HasSubstr;
using testing::Pointwise;

HyperParams model_of(int n_layer) {
    HyperParams hparams;
    hparams.arch = "llama";
    hparams.n_layer = n_layer;
    return hparams;
}

MethodParams fastkv_params() {
    MethodParams params;
    params.method = "fastkv";
    return params;
}

MethodParams with_rates(double retain_rate, double tsp_rate) {
    MethodParams params = fastkv_params();
    params.retain_rate = retain_rate;
    params.tsp_rate = tsp_rate;
    return params;
}

LayerPlan plan(const MethodParams& params, int layer, int n_prompt, int n_rows) {
    return find_method(params.method)
        .plan(params, {.layer = layer, .n_layer = 32, .n_prompt = n_prompt, .n_rows = n_rows});
}

// What each layer receives and caches, when the plans are carried out.
struct Walk {
    std::vector<int> rows;
    std::vector<int> cached;
};

Walk walk(const MethodParams& params, int n_layer, int n_prompt) {
    Walk result;
    for (const PlannedLayer& layer : plan_prompt(find_method(params.method), params, n_layer, n_prompt)) {
        EXPECT_EQ(layer.plan.score.has_value(), layer.plan.keep || layer.plan.propagate);
        result.rows.push_back(layer.at.n_rows);
        result.cached.push_back(layer.cached);
    }
    return result;
}

// The message with which `params` are refused, or "" where they are not.
std::string refusal(const MethodParams& params, int n_layer = 32) {
    try {
        resolve(params, model_of(n_layer));
    } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::usage);
        EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
        return error.what();
    }
    return "";
}

// ---- parameters --------------------------------------------------------------------------------------------

TEST(Methods, AreListed) {
    std::vector<std::string> names;
    for (const MethodInfo& info : list_methods()) {
        names.push_back(info.name);
        EXPECT_FALSE(info.summary.empty());
        EXPECT_FALSE(info.source.empty());
    }
    EXPECT_THAT(names, ElementsAre("fullkv", "fastkv"));
}

TEST(Methods, AnUnknownNameListsTheMethods) {
    MethodParams params;
    params.method = "magic";
    EXPECT_EQ(refusal(params), "--method magic is unknown; there are: fullkv, fastkv");
}

TEST(Methods, ProportionalDefaults) {
    const MethodParams p = resolve(fastkv_params(), model_of(32));
    EXPECT_EQ(p.retain_rate, 0.1);
    EXPECT_EQ(p.tsp_rate, 0.2);
    EXPECT_EQ(p.tsp_layer, 15);
    EXPECT_EQ(p.window, 8);
    EXPECT_EQ(p.kernel, 7);
    EXPECT_EQ(p.pooling, Pooling::max);
    EXPECT_FALSE(p.budget || p.tsp_len);
}

TEST(Methods, ConstantDefaults) {
    MethodParams params = fastkv_params();
    params.budget = 512;
    const MethodParams p = resolve(params, model_of(36));
    EXPECT_EQ(p.budget, 512);
    EXPECT_EQ(p.tsp_len, 2048);
    EXPECT_EQ(p.tsp_layer, 17);
    EXPECT_FALSE(p.retain_rate || p.tsp_rate);
}

TEST(Methods, DefaultTspLayerIsThePublishedDepth) {
    const int layers_and_defaults[][2] = {{32, 15}, {36, 17}, {40, 19}, {30, 14}, {24, 11}, {3, 0}, {2, 0}, {1, 0}};
    for (const auto& [n_layer, expected] : layers_and_defaults) {
        EXPECT_EQ(resolve(fastkv_params(), model_of(n_layer)).tsp_layer, expected) << n_layer;
    }
}

TEST(Methods, TspRateFollowsAHigherRetainRate) {
    MethodParams params = fastkv_params();
    params.retain_rate = 0.5;
    EXPECT_EQ(resolve(params, model_of(32)).tsp_rate, 0.5);
}

TEST(Methods, ResolvingTwiceChangesNothing) {
    MethodParams constant = fastkv_params();
    constant.budget = 64;
    MethodParams off = fastkv_params();
    off.tsp_layer = TspLayer::off;
    MethodParams full;
    full.method = "fullkv";
    for (const MethodParams& params : {fastkv_params(), constant, off, full}) {
        const MethodParams once = resolve(params, model_of(32));
        const MethodParams twice = resolve(once, model_of(32));
        EXPECT_EQ(once.retain_rate, twice.retain_rate);
        EXPECT_EQ(once.tsp_rate, twice.tsp_rate);
        EXPECT_EQ(once.tsp_layer, twice.tsp_layer);
        EXPECT_EQ(once.budget, twice.budget);
        EXPECT_EQ(once.tsp_len, twice.tsp_len);
    }
}

TEST(Methods, FullKvRefusesEveryParameterByName) {
    const auto refused = [](auto set, const std::string& flag) {
        MethodParams params;
        params.method = "fullkv";
        set(params);
        EXPECT_THAT(refusal(params), HasSubstr(flag + " is not used by fullkv"));
    };
    refused([](MethodParams& p) { p.retain_rate = 0.1; }, "--retain-rate");
    refused([](MethodParams& p) { p.tsp_rate = 0.1; }, "--tsp-rate");
    refused([](MethodParams& p) { p.tsp_layer = TspLayer::off; }, "--tsp-layer");
    refused([](MethodParams& p) { p.window = 8; }, "--window");
    refused([](MethodParams& p) { p.kernel = 7; }, "--kernel");
    refused([](MethodParams& p) { p.pooling = Pooling::max; }, "--pooling");
    refused([](MethodParams& p) { p.budget = 512; }, "--budget");
    refused([](MethodParams& p) { p.tsp_len = 512; }, "--tsp-len");
}

TEST(Methods, RatesOutsideTheirRangeAreRefused) {
    for (double rate : {0.0, -0.1, 1.0000001, 7.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
        MethodParams retain = fastkv_params();
        retain.retain_rate = rate;
        EXPECT_THAT(refusal(retain), HasSubstr("--retain-rate")) << rate;
        MethodParams tsp = fastkv_params();
        tsp.tsp_rate = rate;
        EXPECT_THAT(refusal(tsp), HasSubstr("--tsp-rate")) << rate;
    }
    MethodParams params = fastkv_params();
    params.retain_rate = 7;
    EXPECT_EQ(refusal(params), "--retain-rate 7 is outside (0, 1]");
    EXPECT_EQ(refusal(with_rates(1, 1)), "");
    EXPECT_EQ(refusal(with_rates(1e-9, 1e-9)), "");
}

TEST(Methods, RetainingMoreThanIsPropagatedIsRefused) {
    EXPECT_THAT(refusal(with_rates(0.3, 0.2)), HasSubstr("--retain-rate 0.3 is above --tsp-rate 0.2"));
    EXPECT_EQ(refusal(with_rates(0.2, 0.2)), "");
    MethodParams off = fastkv_params();
    off.tsp_layer = TspLayer::off;
    off.retain_rate = 0.9;
    EXPECT_EQ(refusal(off), "");
}

TEST(Methods, LayersOutsideTheModelAreRefused) {
    for (int layer : {-3, 32, 1000}) {
        MethodParams params = fastkv_params();
        params.tsp_layer = layer;
        EXPECT_THAT(refusal(params), HasSubstr("its layers are 0 to 31")) << layer;
    }
    for (int layer : {0, 31}) {
        MethodParams params = fastkv_params();
        params.tsp_layer = layer;
        EXPECT_EQ(resolve(params, model_of(32)).tsp_layer, layer);
    }
}

TEST(Methods, CountsOutOfRangeAreRefused) {
    const auto refused = [](auto set, const std::string& flag) {
        MethodParams params = fastkv_params();
        set(params);
        EXPECT_THAT(refusal(params), HasSubstr(flag));
    };
    refused([](MethodParams& p) { p.window = 0; }, "--window 0");
    refused([](MethodParams& p) { p.kernel = 0; }, "--kernel 0");
    refused([](MethodParams& p) { p.kernel = 6; }, "--kernel 6 is even");
    refused([](MethodParams& p) { p.kernel = -7; }, "--kernel -7");
    refused([](MethodParams& p) { p.budget = 0; }, "--budget 0");
    refused([](MethodParams& p) { p.budget = 7; }, "--budget 7 is below --window 8");
    refused([](MethodParams& p) { p.budget = 64, p.tsp_len = 0; }, "--tsp-len 0");
    refused([](MethodParams& p) { p.budget = 64, p.tsp_len = 8; }, "--tsp-len 8 must be above --window 8");
}

TEST(Methods, ParametersOfTheOtherModeAreRefused) {
    const auto refused = [](auto set, const std::string& message) {
        MethodParams params = fastkv_params();
        set(params);
        EXPECT_THAT(refusal(params), HasSubstr(message));
    };
    refused([](MethodParams& p) { p.budget = 512, p.retain_rate = 0.1; }, "--retain-rate is not used with --budget");
    refused([](MethodParams& p) { p.budget = 512, p.tsp_rate = 0.2; }, "--tsp-rate is not used with --budget");
    refused([](MethodParams& p) { p.tsp_len = 2048; }, "--tsp-len is not used without --budget");
    refused([](MethodParams& p) { p.tsp_layer = TspLayer::off, p.tsp_rate = 0.2; },
            "--tsp-rate is not used with --tsp-layer off");
    refused([](MethodParams& p) { p.tsp_layer = TspLayer::off, p.budget = 64, p.tsp_len = 99; },
            "--tsp-len is not used with --tsp-layer off");
}

// ---- plans -------------------------------------------------------------------------------------------------

TEST(FullKv, PlansNothing) {
    MethodParams params;
    params.method = "fullkv";
    for (int n : {1, 8, 4096}) {
        const LayerPlan p = plan(resolve(params, model_of(32)), 15, n, n);
        EXPECT_FALSE(p.score || p.keep || p.propagate);
    }
}

struct BudgetRow {
    int n, at_r1, at_r2, propagated, past_tsp;
};

TEST(FastKv, BudgetsOfTheReference) {
    // n, C at r = .1, C at r = .2, T at rho = .2, C past the TSP layer at r = .1
    const BudgetRow table[] = {
        {80, 8, 16, 16, 8},           {1000, 100, 200, 200, 100},           {4096, 409, 819, 819, 409},
        {7950, 795, 1590, 1590, 795}, {8192, 819, 1638, 1638, 819},         {32768, 3276, 6553, 6553, 3276},
        {999, 99, 199, 199, 99},      {127500, 12750, 25500, 25500, 12750}, {131072, 13107, 26214, 26214, 13107},
    };
    const MethodParams r1 = resolve(with_rates(0.1, 0.2), model_of(32));
    const MethodParams r2 = resolve(with_rates(0.2, 0.2), model_of(32));
    for (const BudgetRow& row : table) {
        const Walk at_r1 = walk(r1, 32, row.n);
        EXPECT_EQ(at_r1.rows[15], row.n);
        EXPECT_EQ(at_r1.rows[16], row.propagated);
        EXPECT_EQ(at_r1.cached[0], row.at_r1);
        EXPECT_EQ(at_r1.cached[15], row.at_r1);
        EXPECT_EQ(at_r1.cached[16], row.past_tsp);
        EXPECT_EQ(at_r1.cached[31], row.past_tsp);
        const Walk at_r2 = walk(r2, 32, row.n);
        EXPECT_EQ(at_r2.cached[15], row.at_r2);
        EXPECT_EQ(at_r2.cached[16], row.propagated);  // r = rho: the deeper layers keep all that they see
    }
}

TEST(FastKv, AShortPromptKeepsTheLayersWhoseBudgetDoesNotHoldTheWindow) {
    // n = 79: C = 7 < 8 keeps all of the lower layers; T = 15 goes on, and of those trunc(15 * .5) = 7 < 8 again.
    const Walk w = walk(resolve(fastkv_params(), model_of(4)), 4, 79);
    EXPECT_THAT(w.rows, ElementsAre(79, 79, 15, 15));
    EXPECT_THAT(w.cached, ElementsAre(79, 79, 15, 15));
}

TEST(FastKv, ASkippedPropagationLeavesTheRateAlone) {
    // n = 40: T = 8 is no more than the window, so all 40 go on; the budget stays trunc(40 * .2), not 40 * r / rho.
    const Walk w = walk(resolve(with_rates(0.2, 0.2), model_of(4)), 4, 40);
    EXPECT_THAT(w.rows, Each(40));
    EXPECT_THAT(w.cached, Each(8));
    // The same number of rows as the rest of a longer prompt keeps the larger share.
    EXPECT_THAT(walk(resolve(with_rates(0.2, 0.2), model_of(4)), 4, 200).cached, Each(40));
}

TEST(FastKv, PromptsAroundTheWindow) {
    MethodParams constant = fastkv_params();
    constant.budget = 8;
    constant.tsp_len = 9;
    for (int n : {1, 2, 7, 8}) {
        for (const MethodParams& params : {fastkv_params(), with_rates(0.9, 0.9), constant}) {
            const Walk w = walk(resolve(params, model_of(4)), 4, n);
            EXPECT_THAT(w.rows, Each(n));
            EXPECT_THAT(w.cached, Each(n));
        }
    }
    // window + 1 tokens: trunc(9 * .9) = 8 entries, the window itself; T = 8 cannot propagate.
    const Walk w = walk(resolve(with_rates(0.9, 0.9), model_of(4)), 4, 9);
    EXPECT_THAT(w.rows, Each(9));
    EXPECT_THAT(w.cached, Each(8));
    // window + 1 tokens, constant: the budget is the window, T = 9 is not below the prompt.
    const Walk c = walk(resolve(constant, model_of(4)), 4, 9);
    EXPECT_THAT(c.rows, Each(9));
    EXPECT_THAT(c.cached, Each(8));
}

TEST(FastKv, ConstantModeLeavesPromptsBelowTheBudgetAlone) {
    MethodParams params = fastkv_params();
    params.budget = 512;
    params.tsp_len = 100;
    const MethodParams resolved = resolve(params, model_of(4));
    const Walk below = walk(resolved, 4, 511);  // also above tsp_len: the reference does not propagate here either
    EXPECT_THAT(below.rows, Each(511));
    EXPECT_THAT(below.cached, Each(511));
    const Walk at = walk(resolved, 4, 512);
    EXPECT_THAT(at.rows, ElementsAre(512, 512, 100, 100));
    EXPECT_THAT(at.cached, ElementsAre(512, 512, 100, 100));
    const Walk above = walk(resolved, 4, 10000);
    EXPECT_THAT(above.rows, ElementsAre(10000, 10000, 100, 100));
    EXPECT_THAT(above.cached, ElementsAre(512, 512, 100, 100));
}

TEST(FastKv, ConstantModePropagatesOnlyPromptsAboveTspLen) {
    MethodParams params = fastkv_params();
    params.budget = 128;
    const MethodParams resolved = resolve(params, model_of(4));
    EXPECT_THAT(walk(resolved, 4, 2048).rows, Each(2048));
    EXPECT_THAT(walk(resolved, 4, 2049).rows, ElementsAre(2049, 2049, 2048, 2048));
    EXPECT_THAT(walk(resolved, 4, 2049).cached, Each(128));
}

TEST(FastKv, WithoutPropagationEveryLayerUsesTheRate) {
    MethodParams params = fastkv_params();
    params.tsp_layer = TspLayer::off;
    const Walk w = walk(resolve(params, model_of(4)), 4, 1000);
    EXPECT_THAT(w.rows, Each(1000));
    EXPECT_THAT(w.cached, Each(100));
}

TEST(FastKv, PropagatesAfterAnyLayer) {
    for (int layer = 0; layer < 4; ++layer) {
        MethodParams params = fastkv_params();
        params.tsp_layer = layer;
        const MethodParams resolved = resolve(params, model_of(4));
        for (int l = 0; l < 4; ++l) {
            EXPECT_EQ(plan(resolved, l, 1000, l <= layer ? 1000 : 200).propagate.has_value(), l == layer);
        }
    }
}

TEST(FastKv, RetainRateOneIsFullKv) {
    for (int n : {1, 2, 7, 8, 9, 79, 1000, 131071}) {
        MethodParams params = fastkv_params();
        params.retain_rate = 1.0;
        const MethodParams resolved = resolve(params, model_of(32));
        for (int layer = 0; layer < 32; ++layer) {
            const LayerPlan p = plan(resolved, layer, n, n);
            EXPECT_FALSE(p.score || p.keep || p.propagate) << n;
        }
    }
}

TEST(FastKv, ThePlanCarriesTheScoring) {
    MethodParams params = fastkv_params();
    params.window = 16;
    params.kernel = 21;
    params.pooling = Pooling::avg;
    const LayerPlan p = plan(resolve(params, model_of(32)), 15, 1000, 1000);
    ASSERT_TRUE(p.score && p.keep && p.propagate);
    EXPECT_EQ(p.score->n_query, 16);
    EXPECT_EQ(p.score->kernel, 21);
    EXPECT_EQ(p.score->pooling, Pooling::avg);
    EXPECT_EQ(p.keep->count, 100);
    EXPECT_EQ(p.keep->tail, 16);
    EXPECT_EQ(p.propagate->count, 200);
    EXPECT_EQ(p.propagate->tail, 16);
}

// ---- pooling and selection ---------------------------------------------------------------------------------

std::vector<float> naive_pool(std::span<const float> row, int kernel, Pooling pooling) {
    std::vector<float> out;
    for (int i = 0; i < std::ssize(row); ++i) {
        double sum = 0;
        float best = -std::numeric_limits<float>::infinity();
        for (int j = std::max(0, i - kernel / 2); j <= std::min(int(row.size()) - 1, i + kernel / 2); ++j) {
            sum += row[size_t(j)];
            best = std::max(best, row[size_t(j)]);
        }
        out.push_back(pooling == Pooling::max ? best : float(sum / kernel));
    }
    return out;
}

Scores random_scores(int n_head, int n_col, unsigned seed) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<float> value(-1, 1);
    Scores scores{n_head, n_col, std::vector<float>(size_t(n_head) * size_t(n_col))};
    std::generate(scores.values.begin(), scores.values.end(), [&] { return value(random); });
    return scores;
}

TEST(Pool, EqualsTheNaiveOne) {
    for (int n_col : {0, 1, 2, 3, 5, 100}) {
        for (int kernel : {1, 3, 7, 21, 1001}) {
            for (Pooling pooling : {Pooling::max, Pooling::avg}) {
                const Scores before = random_scores(3, n_col, unsigned(n_col));
                Scores after = before;
                pool(after, kernel, pooling);
                for (int head = 0; head < 3; ++head) {
                    EXPECT_THAT(after.row(head),
                                Pointwise(FloatNear(1e-6f), naive_pool(before.row(head), kernel, pooling)));
                }
            }
        }
    }
}

TEST(Pool, EdgesOfAverageCountThePadding) {
    Scores scores{1, 5, {3, 3, 3, 3, 3}};
    pool(scores, 3, Pooling::avg);
    EXPECT_THAT(scores.values, ElementsAre(2, 3, 3, 3, 2));
}

TEST(Pool, MaximumIgnoresNan) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    Scores scores{1, 5, {nan, -3, nan, -2, nan}};
    pool(scores, 3, Pooling::max);
    EXPECT_THAT(scores.values, ElementsAre(-3, -3, -2, -2, -2));
}

TEST(SumHeads, AddsTheHeadsOfAGroup) {
    const Scores scores{4, 2, {1, 2, 10, 20, 100, 200, 1000, 2000}};
    const Scores groups = sum_groups(scores, 2);
    EXPECT_EQ(groups.n_head, 2);
    EXPECT_EQ(groups.n_col, 2);
    EXPECT_THAT(groups.values, ElementsAre(11, 22, 1100, 2200));
    const Scores all = sum_heads(groups);
    EXPECT_EQ(all.n_head, 1);
    EXPECT_THAT(all.values, ElementsAre(1111, 2222));
}

// A stable sort by falling value keeps the lower of equal indices in front.
std::vector<int> naive_top_k(std::span<const float> values, int count) {
    const auto key = [&](int i) {
        const float x = values[size_t(i)];
        return std::isnan(x) ? -std::numeric_limits<float>::infinity() : x;
    };
    std::vector<int> order(values.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return key(a) > key(b); });
    order.resize(size_t(std::clamp(count, 0, int(values.size()))));
    std::sort(order.begin(), order.end());
    return order;
}

TEST(TopK, EqualsAStableSortOnHeavyTies) {
    std::mt19937 random(1);
    for (int round = 0; round < 300; ++round) {
        const int size = int(random() % 200);
        const unsigned n_distinct = 1 + random() % 8;
        std::vector<float> values(static_cast<size_t>(size));
        for (float& x : values) x = float(random() % n_distinct) - 3;
        for (float& x : values) {
            const unsigned special = random() % 40;
            if (special == 0) x = std::numeric_limits<float>::quiet_NaN();
            if (special == 1) x = std::numeric_limits<float>::infinity();
            if (special == 2) x = -std::numeric_limits<float>::infinity();
            if (special == 3) x = -0.0f;
        }
        for (int count : {0, 1, 2, size / 10, size / 2, size - 1, size, size + 5}) {
            EXPECT_EQ(top_k(values, count), naive_top_k(values, count)) << "round " << round << " count " << count;
        }
    }
}

TEST(TopK, EqualsAStableSortOnDistinctValues) {
    const Scores scores = random_scores(1, 20000, 7);
    for (int count : {1, 8, 400, 19999}) EXPECT_EQ(top_k(scores.row(0), count), naive_top_k(scores.row(0), count));
}

TEST(TopK, OfEqualValuesTheLowerIndexWins) {
    const std::vector<float> flat(100, 0.5f);
    EXPECT_THAT(top_k(flat, 3), ElementsAre(0, 1, 2));
    EXPECT_THAT(top_k(std::vector<float>{1, 2, 1, 2, 1, 2}, 4), ElementsAre(0, 1, 3, 5));
}

TEST(TopK, BudgetsOfNoneAndAll) {
    const std::vector<float> values{3, 1, 2};
    EXPECT_TRUE(top_k(values, 0).empty());
    EXPECT_TRUE(top_k(values, -5).empty());
    EXPECT_THAT(top_k(values, 1), ElementsAre(0));
    EXPECT_THAT(top_k(values, 3), ElementsAre(0, 1, 2));
    EXPECT_THAT(top_k(values, 1000), ElementsAre(0, 1, 2));
    EXPECT_TRUE(top_k({}, 4).empty());
}

TEST(TopK, NanIsNeverPreferred) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    EXPECT_THAT(top_k(std::vector<float>{nan, -1e30f, nan, 0}, 2), ElementsAre(1, 3));
    EXPECT_THAT(top_k(std::vector<float>{nan, nan, nan}, 2), ElementsAre(0, 1));
}

TEST(SelectWithTail, AppendsTheWindow) {
    const std::vector<float> values{5, 1, 4, 2};
    EXPECT_THAT(select_with_tail(values, 4, 2, 6), ElementsAre(0, 2, 4, 5));
    EXPECT_THAT(select_with_tail(values, 2, 2, 6), ElementsAre(4, 5));
    EXPECT_THAT(select_with_tail(values, 1, 2, 6), ElementsAre(4, 5));
    EXPECT_THAT(select_with_tail(values, 6, 2, 6), ElementsAre(0, 1, 2, 3, 4, 5));
    EXPECT_THAT(select_with_tail({}, 8, 8, 3), ElementsAre(0, 1, 2));
}

// ---- a small attention layer, whose scores and selections are known ------------------------------------------

constexpr int n_head = 4, n_head_kv = 2, head_dim = 4, n_token = 12, window = 2;

double query(int h, int i, int e) { return 2 * std::sin(0.9 * h + 0.37 * i + 1.3 * e + 0.2); }
double key(int g, int j, int e) { return 2 * std::cos(1.1 * g + 0.53 * j * (1 + 0.1 * e) - 0.4 * e); }

// The probabilities that the window's queries give to each token before the window, summed over the window.
Scores window_sums() {
    Scores sums{n_head, n_token - window, std::vector<float>(n_head * (n_token - window))};
    for (int h = 0; h < n_head; ++h) {
        std::vector<double> column(n_token);
        for (int i = n_token - window; i < n_token; ++i) {
            std::vector<double> p;
            for (int j = 0; j <= i; ++j) {
                double dot = 0;
                for (int e = 0; e < head_dim; ++e) dot += query(h, i, e) * key(h * n_head_kv / n_head, j, e);
                p.push_back(std::exp(dot / std::sqrt(double(head_dim))));
            }
            const double total = std::accumulate(p.begin(), p.end(), 0.0);
            for (size_t j = 0; j < p.size(); ++j) column[j] += p[j] / total;
        }
        for (int j = 0; j < n_token - window; ++j) sums.row(h)[size_t(j)] = float(column[size_t(j)]);
    }
    return sums;
}

Scores pooled_groups(Pooling pooling) {
    Scores scores = window_sums();
    pool(scores, 3, pooling);
    return sum_groups(scores, n_head / n_head_kv);
}

TEST(KnownLayer, WindowSums) {
    const Scores sums = window_sums();
    EXPECT_THAT(sums.row(0), Pointwise(FloatNear(1e-6f), {0.016862f, 0.066056f, 0.206276f, 0.358548f, 0.347332f,
                                                          0.241060f, 0.162895f, 0.132651f, 0.135043f, 0.147776f}));
    EXPECT_THAT(sums.row(2), Pointwise(FloatNear(1e-6f), {0.422144f, 0.194855f, 0.066154f, 0.024685f, 0.014699f,
                                                          0.016489f, 0.032283f, 0.085937f, 0.221199f, 0.393649f}));
}

TEST(KnownLayer, PooledGroupScores) {
    const Scores groups = pooled_groups(Pooling::max);
    EXPECT_THAT(groups.row(0), Pointwise(FloatNear(1e-6f), {0.306025f, 0.655093f, 0.807365f, 0.807365f, 0.724470f,
                                                            0.506637f, 0.300065f, 0.220841f, 0.286416f, 0.286416f}));
    EXPECT_THAT(groups.row(1), Pointwise(FloatNear(1e-6f), {0.585896f, 0.585896f, 0.247373f, 0.105662f, 0.093637f,
                                                            0.145359f, 0.254339f, 0.464396f, 0.744344f, 0.744344f}));
}

TEST(KnownLayer, KeptTokens) {
    const Scores max = pooled_groups(Pooling::max);
    EXPECT_THAT(select_with_tail(max.row(0), 6, window, n_token), ElementsAre(1, 2, 3, 4, 10, 11));
    EXPECT_THAT(select_with_tail(max.row(1), 6, window, n_token), ElementsAre(0, 1, 8, 9, 10, 11));
    const Scores avg = pooled_groups(Pooling::avg);
    EXPECT_THAT(select_with_tail(avg.row(0), 6, window, n_token), ElementsAre(1, 2, 3, 4, 10, 11));
    EXPECT_THAT(select_with_tail(avg.row(1), 6, window, n_token), ElementsAre(1, 7, 8, 9, 10, 11));
}

TEST(KnownLayer, PropagatedTokens) {
    const Scores max = sum_heads(pooled_groups(Pooling::max));
    EXPECT_THAT(max.row(0), Pointwise(FloatNear(2e-6f), {0.891920f, 1.240989f, 1.054739f, 0.913027f, 0.818107f,
                                                         0.651996f, 0.554404f, 0.685237f, 1.030759f, 1.030759f}));
    EXPECT_THAT(select_with_tail(max.row(0), 5, window, n_token), ElementsAre(1, 2, 8, 10, 11));
    const Scores avg = sum_heads(pooled_groups(Pooling::avg));
    EXPECT_THAT(avg.row(0), Pointwise(FloatNear(2e-6f), {0.407231f, 0.656830f, 0.692575f, 0.695058f, 0.573961f,
                                                         0.428510f, 0.380947f, 0.471573f, 0.702099f, 0.562715f}));
    EXPECT_THAT(select_with_tail(avg.row(0), 5, window, n_token), ElementsAre(2, 3, 8, 10, 11));
}

}  // namespace
}  // namespace fastkv
