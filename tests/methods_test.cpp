// Methods: parameters that are filled in and refused, and what is planned for a prompt.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>
#include <random>

#include "fastkv/error.h"
#include "methods/carry_out.h"
#include "methods/schedule.h"

namespace fastkv {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

HyperParams model_of(int n_layer) {
    HyperParams hparams;
    hparams.arch = "llama";
    hparams.n_layer = n_layer;
    hparams.n_head = 8;
    hparams.n_head_kv = 2;
    return hparams;
}

MethodParams params_of(const std::string& method) {
    MethodParams params;
    params.method = method;
    return params;
}

MethodParams fastkv_params() { return params_of("fastkv"); }

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
    EXPECT_THAT(names, ElementsAre("fullkv", "fastkv", "snapkv", "streamingllm", "h2o", "gemfilter", "pyramidinfer"));
}

TEST(Methods, AnUnknownNameListsTheMethods) {
    MethodParams params;
    params.method = "magic";
    EXPECT_THAT(refusal(params), StartsWith("--method magic is unknown; there are: fullkv, fastkv, "));
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

TEST(Methods, Qwen2HasDefaultsOfItsOwn) {
    HyperParams qwen2 = model_of(24);
    qwen2.arch = "qwen2";
    const MethodParams p = resolve(fastkv_params(), qwen2);
    EXPECT_EQ(p.tsp_layer, 7);
    EXPECT_EQ(p.tsp_rate, 0.2);
    EXPECT_EQ(p.retain_rate, 0.118);
    EXPECT_EQ(p.window, 64);
    EXPECT_EQ(p.kernel, MethodParams::kernel_auto);
    EXPECT_EQ(p.min_budget, 115);
    EXPECT_EQ(p.layer_budget, LayerBudget::upper);
    EXPECT_EQ(p.long_prompt, 3500);
    EXPECT_EQ(p.long_tsp_layer, 9);
    EXPECT_EQ(p.long_tsp_rate, 0.1);
    EXPECT_EQ(p.long_window, 32);
    MethodParams with_window = fastkv_params();
    with_window.window = 48;
    EXPECT_EQ(resolve(with_window, qwen2).long_window, 48);
    EXPECT_EQ(method_text(resolve(p, qwen2)), method_text(p));
    for (const auto& [name, value] : {std::pair{"tsp_layer", "7"},
                                      {"tsp_rate", "0.3"},
                                      {"budget", "200"},
                                      {"tsp_layer", "off"},
                                      {"retain_rate", "0.15"}}) {
        MethodParams own = fastkv_params();
        set_param(own, name, value);
        EXPECT_FALSE(resolve(own, qwen2).long_prompt) << name;
    }
    EXPECT_EQ(resolve(with_rates(0.3, 0.5), qwen2).tsp_rate, 0.5);
    EXPECT_EQ(resolve(with_rates(0.3, 0.5), qwen2).min_budget, 0);
    EXPECT_EQ(resolve(with_rates(0.3, 0.5), qwen2).window, 32);  // a budget of one's own may be small
    MethodParams wide = fastkv_params();
    wide.retain_rate = 0.3;
    EXPECT_EQ(resolve(wide, qwen2).tsp_rate, 0.3);
    MethodParams snapkv;
    snapkv.method = "snapkv";
    EXPECT_EQ(resolve(snapkv, qwen2).kernel, 7);
}

TEST(Methods, ShortPromptsKeepTheLeastBudget) {
    MethodParams params = with_rates(0.05, 0.1);
    params.min_budget = 100;
    const MethodParams resolved = resolve(params, model_of(4));
    const Walk short_prompt = walk(resolved, 4, 600);
    EXPECT_THAT(short_prompt.rows, ElementsAre(600, 600, 100, 100));
    EXPECT_THAT(short_prompt.cached, Each(100));
    const Walk long_prompt = walk(resolved, 4, 4000);
    EXPECT_THAT(long_prompt.rows, ElementsAre(4000, 4000, 400, 400));
    EXPECT_THAT(long_prompt.cached, Each(200));
    EXPECT_THAT(walk(resolved, 4, 90).cached, Each(90));
    params.budget = 64;
    EXPECT_THAT(refusal(params, 4), HasSubstr("--retain-rate"));
    params.retain_rate.reset(), params.tsp_rate.reset();
    EXPECT_THAT(refusal(params, 4), HasSubstr("--min-budget is not used with --budget"));
}

TEST(Methods, TspRateFollowsAHigherRetainRate) {
    MethodParams params = fastkv_params();
    params.retain_rate = 0.5;
    EXPECT_EQ(resolve(params, model_of(32)).tsp_rate, 0.5);
}

// All parameters as text, in one line.
std::string text_of(const MethodParams& params) {
    std::string text = params.method;
    for (const ParamInfo& info : list_params()) {
        const std::string value = param_text(params, info.name);
        if (!value.empty()) text += " " + info.name + " " + value;
    }
    return text;
}

MethodParams with(const std::string& method, const std::vector<std::pair<std::string, std::string>>& values) {
    MethodParams params = params_of(method);
    for (const auto& [name, value] : values) set_param(params, name, value);
    return params;
}

TEST(Methods, ResolvingTwiceChangesNothing) {
    std::vector<MethodParams> all = {
        with("fastkv", {{"budget", "64"}}),
        with("fastkv", {{"tsp_layer", "off"}}),
        with("fastkv", {{"score", "expected"}, {"kernel", "auto"}, {"tsp_score_layers", "4"}}),
        with("snapkv", {{"tsp_layer", "3"}, {"head_floor", "0.2"}, {"layer_budget", "pyramid"}}),
        with("h2o", {{"h2o_decode", "evict"}}),
        with("h2o", {{"h2o_decode", "evict"}, {"tsp_layer", "3"}, {"budget", "100"}}),
        with("streamingllm", {{"streaming", "rolling"}, {"budget", "100"}}),
        with("pyramidinfer", {{"pyramid_preset", "nemo-0.6"}, {"pyramid_decay", "0.5"}}),
    };
    for (const MethodInfo& info : list_methods()) all.push_back(params_of(info.name));
    for (const MethodParams& params : all) {
        const MethodParams once = resolve(params, model_of(32));
        EXPECT_EQ(text_of(once), text_of(resolve(once, model_of(32))));
    }
}

TEST(Methods, ResolvedParametersAreTheMethodsOwn) {
    EXPECT_EQ(text_of(resolve(params_of("fullkv"), model_of(32))), "fullkv");
    EXPECT_EQ(text_of(resolve(params_of("snapkv"), model_of(32))),
              "snapkv retain_rate 0.1 tsp_layer off window 8 kernel 7 pooling max min_budget 0 select_per kv-head "
              "score window "
              "head_floor 1 layer_budget even");
    EXPECT_EQ(
        text_of(resolve(params_of("h2o"), model_of(32))),
        "h2o retain_rate 0.1 tsp_layer off window 8 min_budget 0 select_per kv-head head_floor 1 layer_budget even "
        "h2o_mask causal h2o_decode keep");
    EXPECT_EQ(text_of(resolve(with("h2o", {{"h2o_decode", "evict"}}), model_of(32))),
              "h2o retain_rate 0.1 tsp_layer off min_budget 0 select_per kv-head layer_budget even h2o_mask causal "
              "h2o_decode evict h2o_recent 0.5");
    EXPECT_EQ(text_of(resolve(params_of("streamingllm"), model_of(32))),
              "streamingllm retain_rate 0.1 sinks 4 streaming original");
    EXPECT_EQ(text_of(resolve(params_of("gemfilter"), model_of(32))), "gemfilter retain_rate 0.1 filter_layer 13");
    EXPECT_EQ(text_of(resolve(with("pyramidinfer", {{"pyramid_decay", "0.5"}}), model_of(32))),
              "pyramidinfer sinks 4 pyramid_preset llama-0.6 pyramid_recent 0.2 pyramid_decay 0.5 "
              "pyramid_min_context 64 pyramid_distance_weight 1.2 pyramid_decode guarded pyramid_decode_keep 0.9 "
              "pyramid_decode_block 16");
}

// Some value that the parameter can have.
std::string sample(const ParamInfo& info) {
    if (info.value.starts_with("N") && info.name != "pyramid_preset") return "9";
    if (info.value == "R" || info.value == "X") return "0.5";
    return info.name == "pyramid_preset" ? "llama-0.6" : info.value.substr(0, info.value.find('|'));
}

TEST(Methods, RefuseEveryParameterThatIsNotTheirOwn) {
    for (const MethodInfo& method : list_methods()) {
        for (const ParamInfo& param : list_params()) {
            const auto& own = method.params;
            const std::string message = refusal(with(method.name, {{param.name, sample(param)}}));
            if (std::find(own.begin(), own.end(), param.name) == own.end()) {
                EXPECT_THAT(message, StartsWith(param.flag + " is not used by " + method.name));
            } else {
                EXPECT_THAT(message, testing::Not(HasSubstr("is not used by")));
            }
        }
        for (const std::string& name : method.params) EXPECT_EQ(param_text(params_of(method.name), name), "");
    }
}

TEST(Methods, PyramidInferPointsToItsPresets) {
    for (const char* name : {"retain_rate", "budget"}) {
        EXPECT_THAT(refusal(with("pyramidinfer", {{name, "1"}})), HasSubstr("--pyramid-preset"));
    }
    EXPECT_EQ(refusal(with("pyramidinfer", {{"pyramid_preset", "llama"}})),
              "--pyramid-preset llama is unknown; there are: llama-0.35, llama-0.5, llama-0.6, ministral-0.35, "
              "ministral-0.6, nemo-0.6");
}

TEST(Methods, SettingsThatMakeAnotherIdle) {
    const auto refused = [](const std::string& method, const std::vector<std::pair<std::string, std::string>>& values,
                            const std::string& message) {
        EXPECT_THAT(refusal(with(method, values)), StartsWith(message));
    };
    for (const char* method : {"snapkv", "h2o"}) {
        refused(method, {{"tsp_rate", "0.3"}}, "--tsp-rate is not used without --tsp-layer");
        refused(method, {{"budget", "64"}, {"tsp_len", "99"}}, "--tsp-len is not used without --tsp-layer");
        refused(method, {{"tsp_score_layers", "2"}}, "--tsp-score-layers is not used without --tsp-layer");
    }
    refused("fastkv", {{"tsp_layer", "off"}, {"tsp_score_layers", "2"}},
            "--tsp-score-layers is not used with --tsp-layer off");
    refused("fastkv", {{"tsp_layer", "2"}, {"tsp_score_layers", "4"}},
            "--tsp-score-layers 4 reaches below layer 0: at most 3 with --tsp-layer 2");
    refused("fastkv", {{"sinks", "4"}}, "--sinks is not used with --score window");
    refused("h2o", {{"h2o_recent", "0.5"}}, "--h2o-recent is not used without --h2o-decode evict");
    const std::pair<std::string, std::string> evict = {"h2o_decode", "evict"};
    refused("h2o", {evict, {"h2o_mask", "reference"}}, "--h2o-mask reference is not used with --h2o-decode evict");
    refused("h2o", {evict, {"head_floor", "0.2"}}, "--head-floor is not used with --h2o-decode evict");
    refused("h2o", {evict, {"window", "8"}}, "--window is not used with --h2o-decode evict");
    EXPECT_EQ(refusal(with("h2o", {evict, {"window", "8"}, {"tsp_layer", "4"}})), "");
}

TEST(Methods, WhatIsOutOfRangeIsRefused) {
    const auto refused = [](const std::string& method, const std::string& name, std::vector<std::string> values) {
        for (const std::string& value : values) {
            const std::string flag = std::string("--") + name.substr(0, name.find('_'));
            EXPECT_THAT(refusal(with(method, {{name, value}})), StartsWith(flag)) << value;
        }
    };
    refused("snapkv", "retain_rate", {"0", "-1", "1.5", "nan", "inf"});
    refused("streamingllm", "retain_rate", {"0", "nan"});
    refused("gemfilter", "retain_rate", {"0", "nan"});
    refused("snapkv", "head_floor", {"-0.1", "1.1", "nan"});
    refused("snapkv", "tsp_layer", {"32"});
    refused("snapkv", "budget", {"-1", "0", "7"});
    refused("h2o", "budget", {"7"});
    refused("h2o", "window", {"0"});
    refused("streamingllm", "sinks", {"-1"});
    refused("streamingllm", "budget", {"0", "4"});
    refused("gemfilter", "budget", {"0", "-3"});
    refused("gemfilter", "filter_layer", {"-1", "32"});
    refused("pyramidinfer", "sinks", {"-1"});
    refused("pyramidinfer", "pyramid_recent", {"-0.1", "1", "nan"});
    refused("pyramidinfer", "pyramid_decay", {"-0.1", "1.1", "nan"});
    refused("pyramidinfer", "pyramid_min_context", {"-1"});
    refused("pyramidinfer", "pyramid_distance_weight", {"0", "-1", "nan", "inf"});
    refused("pyramidinfer", "pyramid_decode_keep", {"0", "1.1", "nan"});
    refused("pyramidinfer", "pyramid_decode_block", {"0"});
    EXPECT_THAT(refusal(with("h2o", {{"h2o_decode", "evict"}, {"h2o_recent", "nan"}})), StartsWith("--h2o-recent nan"));
    EXPECT_THAT(refusal(with("fastkv", {{"score", "expected"}, {"budget", "11"}})),
                StartsWith("--budget 11 is below --window 8 and --sinks 4"));
}

TEST(Params, ReadWhatTheyWrite) {
    for (const ParamInfo& info : list_params()) {
        MethodParams params;
        EXPECT_EQ(param_text(params, info.name), "");
        set_param(params, info.name, sample(info));
        EXPECT_EQ(param_text(params, info.name), sample(info)) << info.name;
        EXPECT_FALSE(info.help.empty() || info.group.empty() || info.value.empty()) << info.name;
        EXPECT_THAT(info.flag, StartsWith("--"));
    }
    EXPECT_EQ(param_text(with("fastkv", {{"tsp_layer", "off"}}), "tsp_layer"), "off");
    EXPECT_EQ(param_text(with("fastkv", {{"kernel", "auto"}}), "kernel"), "auto");
    EXPECT_EQ(param_text(with("fastkv", {{"retain_rate", "0.30000000000000004"}}), "retain_rate"),
              "0.30000000000000004");
}

TEST(Params, RefuseWhatTheyCannotRead) {
    const auto message = [](const std::string& name, const std::string& text) -> std::string {
        MethodParams params;
        try {
            set_param(params, name, text);
        } catch (const Error& error) {
            return error.what();
        }
        return "";
    };
    EXPECT_EQ(message("window", "many"), "--window many is not a whole number");
    EXPECT_EQ(message("window", "99999999999"), "--window 99999999999 is out of range");
    EXPECT_EQ(message("retain_rate", "10%"), "--retain-rate 10% is not a number");
    EXPECT_EQ(message("tsp_layer", "none"), "--tsp-layer none is not a whole number, or off");
    EXPECT_EQ(message("tsp_layer", "-1"), "--tsp-layer -1 is too small; or off");
    EXPECT_EQ(message("kernel", "0"), "--kernel 0 is too small; or auto");
    EXPECT_EQ(message("select_per", "head"), "--select-per head is unknown; there are: kv-head, query-head");
    EXPECT_EQ(message("magic", "1"), "there is no parameter magic");
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

// ---- variants of budgets and propagation ---------------------------------------------------------------------

TEST(LongPrompts, TakeTheirOwnLayerAndRate) {
    const MethodParams params =
        resolve(with("fastkv",
                     {{"tsp_layer", "0"}, {"long_prompt", "1000"}, {"long_tsp_layer", "2"}, {"long_tsp_rate", "0.05"}}),
                model_of(4));
    EXPECT_THAT(walk(params, 4, 999).rows, ElementsAre(999, 199, 199, 199));
    EXPECT_THAT(walk(params, 4, 1000).rows, ElementsAre(1000, 1000, 1000, 50));
    EXPECT_THAT(walk(params, 4, 1000).cached, Each(50));  // a twentieth, as no more go on
    // what is not given is as for short ones
    const auto rows_with = [](const char* name, const char* value) {
        const MethodParams one = with("fastkv", {{"tsp_layer", "0"}, {"long_prompt", "1000"}, {name, value}});
        return walk(resolve(one, model_of(4)), 4, 1000).rows;
    };
    EXPECT_THAT(rows_with("long_tsp_layer", "1"), ElementsAre(1000, 1000, 200, 200));
    EXPECT_THAT(rows_with("long_tsp_rate", "0.5"), ElementsAre(1000, 500, 500, 500));
    const MethodParams window = resolve(with("fastkv", {{"long_prompt", "1000"}, {"long_window", "3"}}), model_of(4));
    EXPECT_EQ(plan(window, 0, 999, 999).score->n_query, 8);
    EXPECT_EQ(plan(window, 0, 1000, 1000).score->n_query, 3);
}

TEST(LongPrompts, NeedALengthAndSomethingToChange) {
    using Values = std::vector<std::pair<std::string, std::string>>;
    const auto message = [](const Values& values) { return refusal(with("fastkv", values)); };
    EXPECT_THAT(message({{"long_prompt", "9"}}),
                HasSubstr("changes nothing without --long-tsp-layer, --long-tsp-rate or --long-window"));
    EXPECT_THAT(message({{"long_tsp_layer", "1"}}), HasSubstr("--long-tsp-layer is not used without --long-prompt"));
    EXPECT_THAT(message({{"long_tsp_rate", "0.1"}}), HasSubstr("--long-tsp-rate is not used without --long-prompt"));
    EXPECT_THAT(message({{"long_window", "4"}}), HasSubstr("--long-window is not used without --long-prompt"));
    EXPECT_THAT(message({{"long_prompt", "9"}, {"long_window", "0"}}), HasSubstr("--long-window 0"));
    EXPECT_THAT(message({{"long_prompt", "0"}, {"long_tsp_rate", "0.1"}}), HasSubstr("--long-prompt 0"));
    EXPECT_THAT(message({{"long_prompt", "9"}, {"long_tsp_rate", "1.1"}}), HasSubstr("--long-tsp-rate 1.1"));
    EXPECT_THAT(message({{"long_prompt", "9"}, {"long_tsp_layer", "32"}}), HasSubstr("its layers are 0 to 31"));
    EXPECT_THAT(message({{"long_prompt", "9"}, {"long_tsp_rate", "0.1"}, {"budget", "100"}}),
                HasSubstr("with --budget"));
    EXPECT_THAT(message({{"long_prompt", "9"}, {"long_tsp_rate", "0.1"}, {"tsp_layer", "off"}}),
                HasSubstr("with --tsp-layer off"));
    EXPECT_THAT(message({{"long_prompt", "9"}, {"long_tsp_layer", "1"}, {"tsp_score_layers", "3"}}),
                HasSubstr("reaches below layer 0 with --long-tsp-layer 1"));
}

TEST(Propagation, OtherMethodsTakeFastKvsArithmetic) {
    const Walk fastkv = walk(resolve(fastkv_params(), model_of(32)), 32, 1001);
    for (const char* method : {"snapkv", "h2o"}) {
        const Walk other = walk(resolve(with(method, {{"tsp_layer", "15"}}), model_of(32)), 32, 1001);
        EXPECT_EQ(other.rows, fastkv.rows) << method;
        EXPECT_EQ(other.cached, fastkv.cached) << method;
    }
}

TEST(Propagation, LayersWhoseScoresCountScore) {
    // r = rho = 1 keeps all below the TSP layer: only propagation asks for scores.
    const MethodParams params = resolve(
        with("fastkv", {{"retain_rate", "0.2"}, {"tsp_rate", "0.2"}, {"tsp_layer", "9"}, {"tsp_score_layers", "3"}}),
        model_of(32));
    const MethodParams constant =
        resolve(with("fastkv", {{"budget", "1000"}, {"tsp_len", "500"}, {"tsp_layer", "9"}, {"tsp_score_layers", "3"}}),
                model_of(32));
    for (int layer = 0; layer < 10; ++layer) {
        EXPECT_TRUE(plan(params, layer, 1000, 1000).score.has_value());
        EXPECT_EQ(plan(constant, layer, 1000, 1000).score.has_value(), layer > 6) << layer;
    }
    EXPECT_EQ(plan(params, 9, 1000, 1000).propagate->n_layer, 3);
}

TEST(Heads, AFloorIsPlanned) {
    const LayerPlan p = plan(resolve(with("snapkv", {{"head_floor", "0.2"}}), model_of(32)), 3, 1000, 1000);
    EXPECT_EQ(p.keep->floor, 0.2);
    EXPECT_EQ(plan(resolve(params_of("snapkv"), model_of(32)), 3, 1000, 1000).keep->floor, 1);
}

int sum(const std::vector<int>& values) { return std::accumulate(values.begin(), values.end(), 0); }

TEST(PyramidBudgets, FallInALineAroundTheMean) {
    // Above the window of 8: 392 on average, from 1.95 to 0.05 times that.
    const Walk w =
        walk(resolve(with("snapkv", {{"budget", "400"}, {"layer_budget", "pyramid"}}), model_of(20)), 20, 4000);
    EXPECT_EQ(w.cached.front(), 8 + 764);
    EXPECT_EQ(w.cached.back(), 8 + 20);
    EXPECT_EQ(sum(w.cached), 20 * 400);
    for (size_t i = 1; i < w.cached.size(); ++i) EXPECT_NEAR(w.cached[i - 1] - w.cached[i], 1.9 * 392 / 19, 2);
}

TEST(UpperBudgets, AreWhatTheLowerLayersLeave) {
    // Above the window of 8, 192 in each of ten layers: the four up to the TSP layer take a twentieth of what the six
    // take.
    const Walk w =
        walk(resolve(with("fastkv",
                          {{"retain_rate", "0.2"}, {"tsp_rate", "0.4"}, {"tsp_layer", "3"}, {"layer_budget", "upper"}}),
                     model_of(10)),
             10, 1000);
    for (size_t layer = 0; layer < 10; ++layer) EXPECT_NEAR(w.cached[layer], 8 + (layer < 4 ? 15.5 : 309.7), 1);
    EXPECT_EQ(sum(w.cached), 10 * 200);
    // Past the TSP layer there are no more than 250: what they cannot take stays below.
    const Walk full = walk(
        resolve(with("fastkv",
                     {{"retain_rate", "0.2"}, {"tsp_rate", "0.25"}, {"tsp_layer", "3"}, {"layer_budget", "upper"}}),
                model_of(10)),
        10, 1000);
    EXPECT_THAT(full.cached, ElementsAre(125, 125, 125, 125, 250, 250, 250, 250, 250, 250));
    // Without propagation the middle of the layers divides them.
    const Walk off =
        walk(resolve(with("snapkv", {{"retain_rate", "0.1"}, {"layer_budget", "upper"}}), model_of(4)), 4, 1000);
    EXPECT_THAT(off.cached, ElementsAre(8 + 9, 8 + 9, 8 + 175, 8 + 175));
}

TEST(ShapedBudgets, KeepTheTotalOfEvenOnes) {
    std::mt19937 random(5);
    for (int round = 0; round < 300; ++round) {
        const int n_layer = 1 + int(random() % 40), n_prompt = 1 + int(random() % 3000);
        MethodParams params = params_of(random() % 2 ? "fastkv" : "h2o");
        const double rate = 0.05 + double(random() % 90) / 100;
        if (random() % 2) {
            params.retain_rate = rate;
        } else {
            params.budget = 8 + int(random() % 1000);
        }
        if (random() % 2) params.tsp_layer = int(random() % unsigned(n_layer));
        if (params.method == "h2o" && random() % 2) params.h2o_decode = H2oDecode::evict;
        const Walk even = walk(resolve(params, model_of(n_layer)), n_layer, n_prompt);
        for (const LayerBudget shape : {LayerBudget::pyramid, LayerBudget::upper}) {
            params.layer_budget = shape;
            const Walk shaped = walk(resolve(params, model_of(n_layer)), n_layer, n_prompt);
            EXPECT_EQ(shaped.rows, even.rows);
            EXPECT_EQ(sum(shaped.cached), sum(even.cached)) << text_of(params) << " n " << n_prompt << " L " << n_layer;
            for (size_t i = 0; i < shaped.cached.size(); ++i) EXPECT_LE(shaped.cached[i], shaped.rows[i]);
        }
    }
}

// ---- the other methods -----------------------------------------------------------------------------------------

TEST(SnapKv, HasTheSameBudgetInEveryLayer) {
    const int budgets[][2] = {{80, 8}, {1000, 100}, {4096, 409}, {7950, 795}, {32768, 3276}, {131072, 13107}};
    for (const auto& [n, budget] : budgets) {
        const Walk w = walk(resolve(params_of("snapkv"), model_of(32)), 32, n);
        EXPECT_THAT(w.rows, Each(n));
        EXPECT_THAT(w.cached, Each(budget));
        EXPECT_EQ(walk(resolve(params_of("h2o"), model_of(32)), 32, n).cached, w.cached);
    }
    EXPECT_THAT(walk(resolve(params_of("snapkv"), model_of(32)), 32, 79).cached, Each(79));
    EXPECT_THAT(walk(resolve(with("snapkv", {{"budget", "512"}}), model_of(4)), 4, 511).cached, Each(511));
    EXPECT_THAT(walk(resolve(with("snapkv", {{"budget", "512"}}), model_of(4)), 4, 513).cached, Each(512));
}

TEST(SnapKv, WhoScoresAndWhoChooses) {
    const LayerPlan p = plan(resolve(with("snapkv", {{"select_per", "query-head"}}), model_of(32)), 3, 1000, 1000);
    EXPECT_EQ(p.keep->per, SelectPer::query_head);
    EXPECT_EQ(p.score->n_query, 8);
    EXPECT_EQ(p.score->kernel, 7);
    EXPECT_FALSE(p.score->whole_spans);
    const LayerPlan whole = plan(resolve(with("snapkv", {{"kernel", "auto"}}), model_of(32)), 3, 1000, 1000);
    EXPECT_EQ(whole.score->kernel, 21);
    EXPECT_TRUE(whole.score->whole_spans);
    const LayerPlan expected =
        plan(resolve(with("snapkv", {{"score", "expected"}, {"kernel", "auto"}}), model_of(32)), 3, 1000, 1000);
    EXPECT_EQ(expected.score->kind, ScoreKind::expected);
    EXPECT_EQ(expected.score->n_query, 0);
    EXPECT_EQ(expected.score->kernel, 1);
    EXPECT_TRUE(expected.score->whole_spans);
    EXPECT_EQ(expected.keep->sinks, 4);
    EXPECT_EQ(expected.keep->tail, 8);
}

TEST(H2o, EveryTokenScores) {
    const LayerPlan p = plan(resolve(params_of("h2o"), model_of(32)), 3, 1000, 1000);
    EXPECT_EQ(p.score->n_query, 1000);
    EXPECT_EQ(p.score->tail, 8);
    EXPECT_EQ(p.score->kernel, 1);
    EXPECT_EQ(p.score->mask, ScoreMask::causal);
    EXPECT_EQ(p.keep->per, SelectPer::kv_head);
    const LayerPlan reference = plan(resolve(with("h2o", {{"h2o_mask", "reference"}}), model_of(32)), 3, 1000, 1000);
    EXPECT_EQ(reference.score->mask, ScoreMask::tail_causal);
}

TEST(H2o, EvictingSplitsTheBudget) {
    const HyperParams hparams = model_of(4);
    const MethodParams params =
        resolve(with("h2o", {{"budget", "101"}, {"h2o_decode", "evict"}, {"h2o_recent", "0.3"}}), hparams);
    const LayerPlan p = plan(params, 0, 1000, 1000);
    EXPECT_EQ(p.keep->count, 101);
    EXPECT_EQ(p.keep->tail, 30);
    EXPECT_EQ(p.score->tail, 0);  // recent tokens, too, have sums to go on from
    EXPECT_TRUE(plan(params, 0, 50, 50).score);
    const auto& method = find_method("h2o");
    EXPECT_TRUE(method.eviction(params, hparams, 0, 1000));
    EXPECT_FALSE(method.eviction(resolve(params_of("h2o"), hparams), hparams, 0, 1000));
}

TEST(StreamingLlm, KeepsSinksAndTheRest) {
    const int budgets[][2] = {{80, 8}, {1000, 100}, {4096, 409}, {7950, 795}, {32768, 3276}, {131072, 13107}};
    const MethodParams params = resolve(params_of("streamingllm"), model_of(32));
    for (const auto& [n, budget] : budgets) {
        const LayerPlan p = plan(params, 7, n, n);
        EXPECT_FALSE(p.score || p.propagate);
        EXPECT_EQ(p.keep->count, budget);
        EXPECT_EQ(p.keep->sinks, 4);
        EXPECT_EQ(p.keep->tail, budget - 4);
    }
    EXPECT_EQ(plan(params, 7, 79, 79).keep->count, 7);
    EXPECT_EQ(plan(params, 7, 50, 50).keep->count, 5);
    EXPECT_FALSE(plan(params, 7, 49, 49).keep);  // only sinks would be left
    const MethodParams constant = resolve(with("streamingllm", {{"budget", "100"}, {"sinks", "0"}}), model_of(32));
    EXPECT_FALSE(plan(constant, 7, 100, 100).keep);
    EXPECT_EQ(plan(constant, 7, 101, 101).keep->tail, 100);
}

TEST(StreamingLlm, RollsOnRequest) {
    const HyperParams hparams = model_of(4);
    const auto& method = find_method("streamingllm");
    EXPECT_FALSE(method.eviction(resolve(params_of("streamingllm"), hparams), hparams, 0, 1000));
    const MethodParams rolling = resolve(with("streamingllm", {{"streaming", "rolling"}, {"sinks", "3"}}), hparams);
    EXPECT_EQ(method.eviction(rolling, hparams, 0, 1000)->rolling_sinks(), 3);
    EXPECT_FALSE(method.eviction(rolling, hparams, 0, 30));
}

TEST(GemFilter, DefaultFilterLayerIsThePublishedOne) {
    const int layers_and_defaults[][2] = {{32, 13}, {36, 17}, {40, 19}, {30, 12}, {24, 9}, {3, 1}, {1, 0}};
    for (const auto& [n_layer, expected] : layers_and_defaults) {
        EXPECT_EQ(resolve(params_of("gemfilter"), model_of(n_layer)).filter_layer, expected) << n_layer;
    }
}

TEST(GemFilter, ReadsAllThenTheChosenAgain) {
    const MethodParams params = resolve(with("gemfilter", {{"filter_layer", "1"}}), model_of(4));
    const Walk w = walk(params, 4, 1009);
    EXPECT_THAT(w.rows, ElementsAre(1009, 1009, 100, 100, 100, 100));
    EXPECT_THAT(w.cached, ElementsAre(0, 0, 100, 100, 100, 100));
    const LayerPlan filter = plan(params, 1, 1009, 1009);
    EXPECT_EQ(filter.score->kind, ScoreKind::product);
    EXPECT_EQ(filter.score->n_query, 1);
    EXPECT_EQ(filter.score->tail, 0);
    EXPECT_EQ(filter.score->kernel, 5);
    EXPECT_EQ(filter.score->pooling, Pooling::avg);
    EXPECT_TRUE(filter.propagate->restart);
    const MethodParams constant = resolve(with("gemfilter", {{"budget", "128"}}), model_of(4));
    EXPECT_THAT(walk(constant, 4, 129).cached, ElementsAre(0, 0, 128, 128, 128, 128));
    EXPECT_THAT(walk(constant, 4, 128).cached, ElementsAre(128, 128, 128, 128));
    EXPECT_THAT(walk(params, 4, 9).cached, ElementsAre(9, 9, 9, 9));
}

double mean_retention(const std::string& preset, int n_layer, int n_prompt) {
    const MethodParams params = resolve(with("pyramidinfer", {{"pyramid_preset", preset}}), model_of(n_layer));
    return 100.0 * sum(walk(params, n_layer, n_prompt).cached) / n_layer / n_prompt;
}

TEST(PyramidInfer, PresetsRetainWhatTheReferencesDo) {
    const struct {
        const char* preset;
        int n_layer;
        double at_1000, at_4000, at_7950;
    } table[] = {
        {"llama-0.35", 32, 37.1, 34.5, 34.0},    {"llama-0.5", 32, 53.5, 50.3, 49.9},
        {"llama-0.6", 32, 60.6, 59.6, 59.6},     {"ministral-0.35", 36, 36.3, 33.4, 32.8},
        {"ministral-0.6", 36, 61.0, 60.3, 60.3}, {"nemo-0.6", 40, 61.1, 60.4, 60.4},
    };
    for (const auto& row : table) {
        EXPECT_NEAR(mean_retention(row.preset, row.n_layer, 1000), row.at_1000, 0.06) << row.preset;
        EXPECT_NEAR(mean_retention(row.preset, row.n_layer, 4000), row.at_4000, 0.06) << row.preset;
        EXPECT_NEAR(mean_retention(row.preset, row.n_layer, 7950), row.at_7950, 0.06) << row.preset;
    }
}

TEST(PyramidInfer, LayersOfARecordedRun) {
    // The reference on 604 tokens in 30 layers.
    EXPECT_THAT(walk(resolve(with("pyramidinfer", {{"pyramid_preset", "llama-0.35"}}), model_of(30)), 30, 604).cached,
                ElementsAre(604, 604, 602, 595, 580, 555, 518, 469, 410, 343, 274, 207, 148, 99, 99, 99, 99, 99, 99, 99,
                            99, 99, 99, 99, 99, 99, 99, 99, 99, 99));
    EXPECT_THAT(walk(resolve(params_of("pyramidinfer"), model_of(30)), 30, 604).cached,
                ElementsAre(604, 604, 603, 601, 597, 590, 580, 566, 548, 526, 500, 471, 439, 406, 372, 338, 305, 274,
                            246, 221, 199, 199, 199, 199, 199, 199, 199, 199, 199, 199));
}

TEST(PyramidInfer, ProtectsSinksAndTheRecent) {
    const LayerPlan p = plan(resolve(params_of("pyramidinfer"), model_of(32)), 8, 1000, 900);
    EXPECT_FALSE(p.keep);
    EXPECT_EQ(p.score->n_query, 201);
    EXPECT_EQ(p.score->tail, 201);
    EXPECT_EQ(p.score->last_weight, 1.2);
    EXPECT_EQ(p.score->kernel, 1);
    EXPECT_EQ(p.propagate->sinks, 4);
    EXPECT_EQ(p.propagate->tail, 201);
    EXPECT_EQ(p.propagate->count, 201 + int(699 * (0.7 + 0.3 * (std::cos(std::numbers::pi / 4) + 1) / 2)));
}

TEST(PyramidInfer, ShortPromptsAndOddSchedulesKeepAll) {
    for (int n : {1, 2, 5, 64, 80}) {
        EXPECT_THAT(walk(resolve(params_of("pyramidinfer"), model_of(8)), 8, n).cached, Each(n)) << n;
    }
    const auto all = [](const std::string& name, const std::string& value) {
        return walk(resolve(with("pyramidinfer", {{name, value}}), model_of(8)), 8, 1000).cached;
    };
    EXPECT_THAT(all("pyramid_recent", "0.999"), Each(1000));
    EXPECT_THAT(all("pyramid_decay", "1"), Each(1000));
    EXPECT_THAT(all("sinks", "1000"), Each(1000));
    EXPECT_THAT(all("pyramid_min_context", "1000"), Each(1000));
}

// ---- all of them -----------------------------------------------------------------------------------------------

TEST(EveryMethod, PlansWhatCanBeCarriedOut) {
    std::mt19937 random(11);
    for (int round = 0; round < 2000; ++round) {
        const auto methods = list_methods();
        MethodParams params = params_of(methods[random() % methods.size()].name);
        const int n_layer = 1 + int(random() % 12), n_prompt = 1 + int(random() % (round % 2 ? 40 : 2000));
        for (const ParamInfo& info : list_params()) {
            if (random() % 4 == 0 && info.name != "tsp_layer" && info.name != "filter_layer") {
                MethodParams tried = params;
                set_param(tried, info.name, sample(info));
                if (refusal(tried, n_layer).empty()) params = tried;
            }
        }
        int reaching = n_prompt;
        for (const PlannedLayer& layer :
             plan_prompt(find_method(params.method), resolve(params, model_of(n_layer)), n_layer, n_prompt)) {
            const auto& [score, keep, propagate] = layer.plan;
            EXPECT_EQ(layer.at.n_rows, reaching) << text_of(params);
            if (keep) {
                EXPECT_LT(keep->count, reaching);
                EXPECT_LE(keep->sinks + keep->tail, keep->count);
                EXPECT_TRUE(score || keep->sinks + keep->tail == keep->count);
            }
            if (propagate) {
                EXPECT_TRUE(score);
                EXPECT_GT(propagate->count, 0);
                EXPECT_LT(propagate->count, reaching);
                EXPECT_LE(propagate->sinks + propagate->tail, propagate->count);
            }
            EXPECT_LE(score ? std::max(score->n_query, score->tail) : 0, reaching);
            reaching = layer.passed;
        }
    }
}

void expect_choice(const std::vector<int>& rows, int sinks, int tail, int n_rows) {
    EXPECT_TRUE(std::is_sorted(rows.begin(), rows.end()));
    EXPECT_EQ(std::adjacent_find(rows.begin(), rows.end()), rows.end());
    EXPECT_TRUE(rows.front() >= 0 && rows.back() < n_rows);
    for (int i = 0; i < sinks; ++i) EXPECT_EQ(rows[size_t(i)], i);
    for (int i = 1; i <= tail; ++i) EXPECT_EQ(rows[rows.size() - size_t(i)], n_rows - i);
}

TEST(EveryMethod, ChoosesAsManyRowsAsPlannedAndTheProtectedOnes) {
    const HyperParams hparams = model_of(6);
    const std::vector<MethodParams> all = {
        with("fastkv", {{"tsp_score_layers", "2"}}),
        with("fastkv", {{"score", "expected"}, {"layer_budget", "pyramid"}}),
        with("snapkv", {{"head_floor", "0.3"}}),
        with("snapkv", {{"head_floor", "0"}, {"select_per", "query-head"}, {"tsp_layer", "2"}}),
        with("streamingllm", {{"budget", "50"}}),
        with("h2o", {{"h2o_decode", "evict"}, {"layer_budget", "pyramid"}}),
        params_of("h2o"),
        params_of("gemfilter"),
        params_of("pyramidinfer"),
    };
    std::mt19937 random(17);
    std::uniform_real_distribution<float> value(0, 1);
    for (const MethodParams& params : all) {
        const MethodEntry& method = find_method(params.method);
        for (const auto& [at, plan, cached, passed] : plan_prompt(method, resolve(params, hparams), 6, 500)) {
            Scores scores;
            if (plan.score) {
                scores = {hparams.n_head, at.n_rows - plan.score->tail, {}};
                scores.values.resize(size_t(scores.n_head * scores.n_col));
                for (float& x : scores.values) x = value(random);
            }
            const Choice choice = carry_out(plan, scores, {.n_group = hparams.n_group(), .n_rows = at.n_rows});
            EXPECT_EQ(choice.kept.empty(), !plan.keep || plan.keep->count == 0);
            int entries = 0;
            for (const auto& rows : choice.kept) {
                expect_choice(rows, plan.keep->sinks, plan.keep->tail, at.n_rows);
                EXPECT_GE(int(rows.size()), int(plan.keep->count * plan.keep->floor));
                entries += int(rows.size());
            }
            EXPECT_EQ(entries, choice.kept.empty() ? 0 : std::ssize(choice.kept) * cached);
            EXPECT_EQ(choice.propagated.empty(), !plan.propagate);
            if (!plan.propagate) continue;
            EXPECT_EQ(std::ssize(choice.propagated), passed);
            expect_choice(choice.propagated, plan.propagate->sinks, plan.propagate->tail, at.n_rows);
        }
    }
}

}  // namespace
}  // namespace fastkv
