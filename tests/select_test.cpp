// From scores to rows: pooling, selection against naive models of it, and plans carried out on a layer that is known.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "methods/carry_out.h"
#include "methods/registry.h"
#include "methods/select.h"

namespace fastkv {
namespace {

using testing::ElementsAre;
using testing::FloatNear;
using testing::IsEmpty;
using testing::Pointwise;

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

TEST(SelectRows, ProtectsBothEnds) {
    const std::vector<float> values{5, 1, 4, 2};
    EXPECT_THAT(select_rows(values, {.count = 4, .tail = 2}, 6), ElementsAre(0, 2, 4, 5));
    EXPECT_THAT(select_rows(values, {.count = 2, .tail = 2}, 6), ElementsAre(4, 5));
    EXPECT_THAT(select_rows(values, {.count = 1, .tail = 2}, 6), ElementsAre(4, 5));
    EXPECT_THAT(select_rows(values, {.count = 6, .tail = 2}, 6), ElementsAre(0, 1, 2, 3, 4, 5));
    EXPECT_THAT(select_rows(values, {.count = 5, .sinks = 2, .tail = 2}, 6), ElementsAre(0, 1, 2, 4, 5));
    EXPECT_THAT(select_rows(values, {.count = 2}, 4), ElementsAre(0, 2));
    EXPECT_THAT(select_rows({}, {.count = 8, .tail = 8}, 3), ElementsAre(0, 1, 2));
    EXPECT_THAT(select_rows({}, {.count = 5, .sinks = 2, .tail = 3}, 9), ElementsAre(0, 1, 6, 7, 8));
    EXPECT_THAT(select_rows({}, {.count = 5, .sinks = 4, .tail = 4}, 6), ElementsAre(0, 1, 2, 3, 4, 5));
}

TEST(SelectRows, ARowWithAScoreMayStillBeInTheTail) {
    EXPECT_THAT(select_rows(std::vector<float>{1, 2, 9, 9, 9}, {.count = 3, .tail = 2}, 5), ElementsAre(2, 3, 4));
}

TEST(SelectShared, GivesTheBetterHeadMore) {
    const Scores scores{2, 6, {9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0}};
    // Two heads of 4 with a tail of 2: four open places. Head 0 has the four best, a floor gives head 1 some of them.
    const auto free = select_shared(scores, {.count = 4, .tail = 2}, 0, 8);
    EXPECT_THAT(free[0], ElementsAre(0, 1, 2, 3, 6, 7));
    EXPECT_THAT(free[1], ElementsAre(6, 7));
    const auto floor = select_shared(scores, {.count = 4, .tail = 2}, 3, 8);
    EXPECT_THAT(floor[0], ElementsAre(0, 1, 2, 6, 7));
    EXPECT_THAT(floor[1], ElementsAre(0, 6, 7));
    const auto even = select_shared(scores, {.count = 4, .tail = 2}, 4, 8);
    EXPECT_THAT(even[0], ElementsAre(0, 1, 6, 7));
    EXPECT_THAT(even[1], ElementsAre(0, 1, 6, 7));
}

TEST(SelectShared, KeepsItsPromisesOnRandomScores) {
    std::mt19937 random(3);
    for (int round = 0; round < 300; ++round) {
        const int n_rows = 1 + int(random() % 60), n_head = 1 + int(random() % 5);
        const int sinks = int(random() % 4), tail = int(random() % 8);
        if (sinks + tail > n_rows) continue;
        const int count = sinks + tail + int(random() % unsigned(n_rows - sinks - tail + 1));
        const int least = int(random() % unsigned(count + 1));
        const Scores scores = random_scores(n_head, n_rows - tail, random());
        const auto kept = select_shared(scores, {.count = count, .sinks = sinks, .tail = tail}, least, n_rows);
        int sum = 0;
        for (const std::vector<int>& rows : kept) {
            sum += int(rows.size());
            EXPECT_GE(int(rows.size()), std::max(least, sinks + tail));
            EXPECT_TRUE(std::is_sorted(rows.begin(), rows.end()));
            EXPECT_EQ(std::adjacent_find(rows.begin(), rows.end()), rows.end());
            for (int i = 0; i < sinks; ++i) EXPECT_EQ(rows[size_t(i)], i);
            for (int i = 1; i <= tail; ++i) EXPECT_EQ(rows[rows.size() - size_t(i)], n_rows - i);
        }
        EXPECT_EQ(sum, n_head * count);
        // All alike with a floor of everything: each head's own best.
        const auto own = select_shared(scores, {.count = count, .sinks = sinks, .tail = tail}, count, n_rows);
        for (int head = 0; head < n_head; ++head) {
            EXPECT_EQ(own[size_t(head)],
                      select_rows(scores.row(head), {.count = count, .sinks = sinks, .tail = tail}, n_rows));
        }
    }
}

// ---- a small attention layer, whose scores and selections are known ------------------------------------------

constexpr int n_head = 4, n_group = 2, head_dim = 4, n_token = 12, window = 2;

double query(int h, int i, int e) { return 2 * std::sin(0.9 * h + 0.37 * i + 1.3 * e + 0.2); }
double key(int g, int j, int e) { return 2 * std::cos(1.1 * g + 0.53 * j * (1 + 0.1 * e) - 0.4 * e); }

double dot(int h, int i, int j) {
    double sum = 0;
    for (int e = 0; e < head_dim; ++e) sum += query(h, i, e) * key(h / n_group, j, e);
    return sum;
}

bool sees(const ScorePlan& plan, int i, int j) {
    const int tail_begin = n_token - plan.tail;
    if (plan.mask == ScoreMask::tail_causal) return i < tail_begin || j < tail_begin || j <= i;
    return j <= i;
}

// What `plan` asks an engine for: a row of sums per query head, unpooled.
Scores scores_of(const ScorePlan& plan) {
    Scores sums{n_head, n_token - plan.tail, std::vector<float>(size_t(n_head * (n_token - plan.tail)))};
    for (int h = 0; h < n_head; ++h) {
        std::vector<double> column(n_token);
        for (int k = 0; k < plan.n_query; ++k) {
            const int i = n_token - plan.n_query + k;
            const double weight = plan.n_query == 1 ? 1 : 1 + (plan.last_weight - 1) * k / (plan.n_query - 1);
            std::vector<double> p(n_token);
            for (int j = 0; j < n_token; ++j) {
                if (plan.kind == ScoreKind::product)
                    p[size_t(j)] = dot(h, i, j);
                else if (sees(plan, i, j))
                    p[size_t(j)] = std::exp(dot(h, i, j) / std::sqrt(double(head_dim)));
            }
            const double total = plan.kind == ScoreKind::product ? 1 : std::accumulate(p.begin(), p.end(), 0.0);
            for (size_t j = 0; j < p.size(); ++j) column[j] += weight * p[j] / total;
        }
        for (int j = 0; j < sums.n_col; ++j) sums.row(h)[size_t(j)] = float(column[size_t(j)]);
    }
    return sums;
}

Choice carry_out_here(const LayerPlan& plan) {
    return carry_out(plan, plan.score ? scores_of(*plan.score) : Scores(), {.n_group = n_group, .n_rows = n_token});
}

LayerPlan window_plan(Pooling pooling) {
    LayerPlan plan;
    plan.score = ScorePlan{.n_query = window, .tail = window, .kernel = 3, .pooling = pooling};
    plan.keep = KeepPlan{.count = 6, .tail = window};
    plan.propagate = PropagatePlan{.count = 5, .tail = window};
    return plan;
}

TEST(KnownLayer, WindowSums) {
    const Scores sums = scores_of(*window_plan(Pooling::max).score);
    EXPECT_THAT(sums.row(0), Pointwise(FloatNear(1e-6f), {0.016862f, 0.066056f, 0.206276f, 0.358548f, 0.347332f,
                                                          0.241060f, 0.162895f, 0.132651f, 0.135043f, 0.147776f}));
    EXPECT_THAT(sums.row(2), Pointwise(FloatNear(1e-6f), {0.422144f, 0.194855f, 0.066154f, 0.024685f, 0.014699f,
                                                          0.016489f, 0.032283f, 0.085937f, 0.221199f, 0.393649f}));
}

TEST(KnownLayer, PooledGroupScores) {
    Scores scores = scores_of(*window_plan(Pooling::max).score);
    pool(scores, 3, Pooling::max);
    const Scores groups = sum_groups(scores, n_group);
    EXPECT_THAT(groups.row(0), Pointwise(FloatNear(1e-6f), {0.306025f, 0.655093f, 0.807365f, 0.807365f, 0.724470f,
                                                            0.506637f, 0.300065f, 0.220841f, 0.286416f, 0.286416f}));
    EXPECT_THAT(groups.row(1), Pointwise(FloatNear(1e-6f), {0.585896f, 0.585896f, 0.247373f, 0.105662f, 0.093637f,
                                                            0.145359f, 0.254339f, 0.464396f, 0.744344f, 0.744344f}));
}

TEST(KnownLayer, FastKv) {
    const Choice max = carry_out_here(window_plan(Pooling::max));
    EXPECT_THAT(max.kept, ElementsAre(ElementsAre(1, 2, 3, 4, 10, 11), ElementsAre(0, 1, 8, 9, 10, 11)));
    EXPECT_THAT(max.total, Pointwise(FloatNear(2e-6f), {0.891920f, 1.240989f, 1.054739f, 0.913027f, 0.818107f,
                                                        0.651996f, 0.554404f, 0.685237f, 1.030759f, 1.030759f}));
    EXPECT_THAT(max.propagated, ElementsAre(1, 2, 8, 10, 11));  // 8 and 9 tie
    const Choice avg = carry_out_here(window_plan(Pooling::avg));
    EXPECT_THAT(avg.kept, ElementsAre(ElementsAre(1, 2, 3, 4, 10, 11), ElementsAre(1, 7, 8, 9, 10, 11)));
    EXPECT_THAT(avg.total, Pointwise(FloatNear(2e-6f), {0.407231f, 0.656830f, 0.692575f, 0.695058f, 0.573961f,
                                                        0.428510f, 0.380947f, 0.471573f, 0.702099f, 0.562715f}));
    EXPECT_THAT(avg.propagated, ElementsAre(2, 3, 8, 10, 11));
}

TEST(KnownLayer, SnapKvPerQueryHead) {
    for (const Pooling pooling : {Pooling::max, Pooling::avg}) {
        LayerPlan plan = window_plan(pooling);
        plan.keep->per = SelectPer::query_head;
        EXPECT_THAT(carry_out_here(plan).kept,
                    ElementsAre(ElementsAre(2, 3, 4, 5, 10, 11), ElementsAre(1, 2, 3, 4, 10, 11),
                                ElementsAre(0, 1, 8, 9, 10, 11), ElementsAre(6, 7, 8, 9, 10, 11)));
    }
}

TEST(KnownLayer, H2o) {
    LayerPlan plan;
    plan.keep = KeepPlan{.count = 6, .tail = window, .per = SelectPer::query_head};
    plan.score = ScorePlan{.n_query = n_token, .tail = window, .mask = ScoreMask::tail_causal};
    EXPECT_THAT(scores_of(*plan.score).row(0),
                Pointwise(FloatNear(2e-6f), {1.825939f, 0.697856f, 0.502459f, 0.676176f, 0.933911f, 1.357721f,
                                             1.782343f, 1.568227f, 0.962203f, 0.602079f}));
    EXPECT_THAT(carry_out_here(plan).kept,
                ElementsAre(ElementsAre(0, 5, 6, 7, 10, 11), ElementsAre(4, 5, 6, 7, 10, 11),
                            ElementsAre(0, 1, 2, 4, 10, 11), ElementsAre(0, 1, 2, 9, 10, 11)));
    plan.score->mask = ScoreMask::causal;
    EXPECT_THAT(scores_of(*plan.score).row(0),
                Pointwise(FloatNear(2e-6f), {4.089718f, 0.935424f, 0.517375f, 0.749054f, 1.152291f, 1.661257f,
                                             1.432208f, 0.731487f, 0.338293f, 0.207394f}));
    EXPECT_THAT(carry_out_here(plan).kept,
                ElementsAre(ElementsAre(0, 4, 5, 6, 10, 11), ElementsAre(0, 3, 4, 5, 10, 11),
                            ElementsAre(0, 1, 2, 3, 10, 11), ElementsAre(0, 1, 2, 9, 10, 11)));
}

TEST(KnownLayer, GemFilter) {
    LayerPlan plan;
    plan.score = ScorePlan{.n_query = 1, .kind = ScoreKind::product, .kernel = 5, .pooling = Pooling::avg};
    plan.keep = KeepPlan{.count = 0};
    plan.propagate = PropagatePlan{.count = 5, .restart = true};
    const Choice choice = carry_out_here(plan);
    EXPECT_THAT(choice.total,
                Pointwise(FloatNear(1e-5f), {0.273066f, 0.240798f, -0.185729f, -0.860214f, -1.784702f, -2.311298f,
                                             -1.812506f, -0.065096f, 2.512759f, 4.919950f, 5.250633f, 4.784109f}));
    EXPECT_THAT(choice.propagated, ElementsAre(0, 8, 9, 10, 11));
    EXPECT_THAT(choice.kept, IsEmpty());
}

TEST(KnownLayer, StreamingLlm) {
    LayerPlan plan;
    plan.keep = KeepPlan{.count = 7, .sinks = 4, .tail = 3};
    const Choice choice = carry_out_here(plan);
    EXPECT_THAT(choice.kept, ElementsAre(ElementsAre(0, 1, 2, 3, 9, 10, 11)));  // one list for all heads
    EXPECT_THAT(choice.total, IsEmpty());
}

TEST(KnownLayer, PyramidInfer) {
    const int n_recent = 1 + 2;
    LayerPlan plan;
    plan.score = ScorePlan{.n_query = n_recent, .tail = n_recent, .last_weight = 1.2};
    plan.propagate = PropagatePlan{.count = 5 + n_recent, .sinks = 1, .tail = n_recent};
    const Choice choice = carry_out_here(plan);
    std::vector<float> mean = choice.total;  // over heads and rows
    for (float& x : mean) x /= float(n_head * n_recent);
    EXPECT_THAT(mean, Pointwise(FloatNear(1e-6f), {0.110197f, 0.085684f, 0.100396f, 0.106546f, 0.083413f, 0.062467f,
                                                   0.055456f, 0.064912f, 0.099054f}));
    EXPECT_THAT(choice.propagated, ElementsAre(0, 1, 2, 3, 8, 9, 10, 11));
    EXPECT_THAT(choice.kept, IsEmpty());
}

TEST(KnownLayer, WhatTheMethodsPlanIsWhatIsTestedHere) {
    const auto plan_of = [](MethodParams params, int layer) {
        const HyperParams hparams{.n_layer = 4, .n_head = n_head, .n_head_kv = n_head / n_group};
        return find_method(params.method)
            .plan(resolve(params, hparams), {.layer = layer, .n_layer = 4, .n_prompt = n_token, .n_rows = n_token});
    };
    MethodParams snapkv{.method = "snapkv", .window = window, .kernel = 3, .budget = 6};
    snapkv.select_per = SelectPer::query_head;
    EXPECT_EQ(carry_out_here(plan_of(snapkv, 0)).kept[0], (std::vector{2, 3, 4, 5, 10, 11}));
    MethodParams h2o{.method = "h2o", .window = window, .budget = 6};
    h2o.select_per = SelectPer::query_head;
    EXPECT_EQ(carry_out_here(plan_of(h2o, 0)).kept[0], (std::vector{0, 4, 5, 6, 10, 11}));
    h2o.h2o_mask = H2oMask::reference;
    EXPECT_EQ(carry_out_here(plan_of(h2o, 0)).kept[0], (std::vector{0, 5, 6, 7, 10, 11}));
    const MethodParams gemfilter{.method = "gemfilter", .budget = 5};
    EXPECT_EQ(carry_out_here(plan_of(gemfilter, 1)).propagated, (std::vector{0, 8, 9, 10, 11}));
    const MethodParams streamingllm{.method = "streamingllm", .budget = 7};
    EXPECT_EQ(carry_out_here(plan_of(streamingllm, 2)).kept[0], (std::vector{0, 1, 2, 3, 9, 10, 11}));
    // R = trunc(12 * 0.2) = 2; at layer 2 of 4 half way from 1 to the decay: 0.6.
    MethodParams pyramid{.method = "pyramidinfer"};
    pyramid.sinks = 1;
    pyramid.pyramid_decay = 0.2;
    pyramid.pyramid_min_context = 3;
    EXPECT_EQ(carry_out_here(plan_of(pyramid, 2)).propagated, (std::vector{0, 1, 2, 3, 8, 9, 10, 11}));
}

// ---- variants ----------------------------------------------------------------------------------------------------

TEST(CarryOutPlan, HeadsThatShareABudgetKeepItTogether) {
    LayerPlan plan = window_plan(Pooling::max);
    plan.keep->count = 5;
    plan.keep->floor = 0.5;
    EXPECT_THAT(carry_out_here(plan).kept, ElementsAre(ElementsAre(1, 2, 3, 4, 10, 11), ElementsAre(8, 9, 10, 11)));
    plan.keep->floor = 1;
    EXPECT_THAT(carry_out_here(plan).kept, ElementsAre(ElementsAre(2, 3, 4, 10, 11), ElementsAre(0, 8, 9, 10, 11)));
}

TEST(CarryOutPlan, PropagationByTheBestOfSeveralLayers) {
    LayerPlan plan = window_plan(Pooling::max);
    std::vector<float> oldest(10), newest(10);
    oldest[5] = 9;
    newest[6] = 8;
    const std::vector<std::vector<float>> earlier{oldest, newest};
    const auto propagated = [&](int n_layer) {
        plan.propagate->n_layer = n_layer;
        const CarryOut context{.n_group = n_group, .n_rows = n_token, .earlier = earlier};
        return carry_out(plan, scores_of(*plan.score), context);
    };
    EXPECT_THAT(propagated(1).propagated, ElementsAre(1, 2, 8, 10, 11));
    EXPECT_THAT(propagated(2).propagated, ElementsAre(1, 2, 6, 10, 11));
    EXPECT_THAT(propagated(3).propagated, ElementsAre(1, 5, 6, 10, 11));
    EXPECT_THAT(propagated(9).propagated, ElementsAre(1, 5, 6, 10, 11));
    EXPECT_EQ(propagated(3).total, propagated(1).total);  // what it hands on is its own
}

TEST(CarryOutPlan, WhatTheKernelReachesIsKeptWhole) {
    LayerPlan plan = window_plan(Pooling::max);
    plan.score->kernel = 1;
    plan.score->whole_spans = true;
    const std::vector<int> spans{0, 0, 0, 0, 4, 4, 4, 4, 4, 9, 10, 10};
    const CarryOut context{.n_group = n_group, .n_rows = n_token, .spans = spans};
    const Choice choice = carry_out(plan, scores_of(*plan.score), context);
    EXPECT_EQ(choice.total[0], choice.total[3]);
    EXPECT_EQ(choice.total[4], choice.total[8]);
    EXPECT_NE(choice.total[3], choice.total[4]);
}

}  // namespace
}  // namespace fastkv
