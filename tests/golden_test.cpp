// fastkv against recorded runs of the reference (PyTorch) on SmolLM2: what every layer keeps, the logits, the answer.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "fastkv/fastkv.h"
#include "support/compare.h"
#include "support/environment.h"

namespace fastkv {
namespace {

using nlohmann::json;

/// How closely a run must follow the recorded one.
struct Tolerance {
    double overlap;  ///< share of the recorded positions, kept and propagated, that the run has too
    double logit;    ///< largest difference among the 20 best logits
    double margin;   ///< answers may part where the two best logits are closer than this
};

// Measured margins of float32 are around 1e-4; the bounds are those the project promises.
constexpr Tolerance f32_tolerance = {0.998, 1e-2, 5e-3};

// bf16 rounds the operands of every product to 8 bits: a relative error of up to 2^-9 each, random in sign. Through
// 30 layers of residual sums such errors reach about 1 % of a logit's deviation: SmolLM2's logits reach 25, so 0.25 at
// each of two logits in the middle, four times that in the worst of 20 (and where the selection differs, so does the
// attention that follows). A margin can be crossed when both logits move.
constexpr Tolerance bf16_tolerance = {0.98, 1.0, 1.0};

std::vector<std::string> golden_cases() {
    std::vector<std::string> cases;
    const auto shared = test::shared_folder();
    if (!shared) return cases;
    for (const auto& entry : std::filesystem::directory_iterator(*shared + "/golden")) {
        const std::string name = entry.path().stem();
        if (entry.path().extension() != ".json") continue;
        if (name.starts_with("fullkv-") || name.starts_with("fastkv-")) cases.push_back(name);
    }
    std::sort(cases.begin(), cases.end());
    return cases;
}

/// The reference's names for parameters -> ours.
MethodParams method_params(const json& golden) {
    MethodParams params;
    params.method = golden.at("method");
    if (params.method == "fullkv") return params;
    const json& p = golden.at("params");
    params.window = p.at("window_size");
    params.kernel = p.at("kernel_size");
    params.pooling = p.at("pooling") == "maxpool" ? Pooling::max : Pooling::avg;
    params.tsp_layer = p.at("tsp_idx");
    if (p.at("eviction_mode") == "constant") {
        params.budget = p.at("max_capacity_prompts").get<int>();
        params.tsp_len = p.at("tsp_len").get<int>();
    } else {
        params.retain_rate = p.at("retain_rate").get<double>();
        params.tsp_rate = p.at("tsp_rate").get<double>();
    }
    return params;
}

/// Counts recorded positions and those of them that the run kept too.
struct Overlap {
    size_t found = 0;
    size_t recorded = 0;
    void add(const std::vector<int>& expected, const std::vector<int>& actual) {
        ASSERT_TRUE(std::is_sorted(actual.begin(), actual.end()));
        ASSERT_EQ(expected.size(), actual.size());
        found += test::common(expected, actual);
        recorded += expected.size();
    }
    double share() const { return recorded ? double(found) / double(recorded) : 1; }
};

const Model& model_with(Compute compute) {
    static std::map<Compute, Model> models;
    auto it = models.find(compute);
    if (it == models.end()) {
        ModelParams params;
        params.compute = compute;
        it = models.emplace(compute, Model::load(*test::test_model(), params)).first;
    }
    return it->second;
}

void compare_selection(const json& golden, const Session& session, double min_overlap) {
    const auto layers = session.layers();
    const json& cache = golden.at("cache");
    for (size_t layer = 0; layer < layers.size(); ++layer) {
        ASSERT_EQ(layers[layer].cached, cache.at("tokens").at(layer)) << "layer " << layer;
        if (!cache.contains("layer_input_tokens")) continue;  // every layer received all
        ASSERT_EQ(layers[layer].rows, cache.at("layer_input_tokens").at(layer)) << "layer " << layer;
    }
    Overlap overlap;
    for (const auto& [layer, selection] : golden.at("selection").items()) {
        if (!selection.contains("kept") || selection.at("kept").is_string()) continue;  // "all"
        const json& heads = selection.at("kept");
        const LayerReport& report = layers[size_t(std::stoi(layer))];
        for (size_t head = 0; head < heads.size(); ++head) {
            overlap.add(heads.at(head).get<std::vector<int>>(), report.kept_by(int(head)));
        }
    }
    if (golden.contains("tsp") && !golden.at("tsp").is_null()) {
        const json& tsp = golden.at("tsp");
        overlap.add(tsp.at("index").get<std::vector<int>>(), layers[tsp.at("layer").get<size_t>()].propagated);
    }
    EXPECT_GE(overlap.share(), min_overlap) << "of the recorded positions";
    ::testing::Test::RecordProperty("overlap", std::to_string(overlap.share()));
}

void compare_logits(const json& golden, std::span<const float> logits, double tolerance) {
    double worst = 0;
    for (const auto& entry : golden.at("first_logits").at("top")) {
        worst = std::max(worst, std::abs(logits[entry[0].get<size_t>()] - entry[1].get<double>()));
    }
    EXPECT_LE(worst, tolerance) << "among the 20 best logits of the first token";
    ::testing::Test::RecordProperty("worst_logit", std::to_string(worst));
}

/// The answer, greedy and past its end, until the recorded margin is so small that rounding decides.
void compare_answer(const json& golden, Session& session, double margin) {
    const auto ids = golden.at("generated").at("ids").get<std::vector<Token>>();
    const auto margins = golden.at("generated").at("margin").get<std::vector<double>>();
    for (size_t step = 0; step < ids.size(); ++step) {
        if (margins[step] < margin) return;
        const auto logits = session.logits();
        const Token best = test::best(logits);
        ASSERT_EQ(best, ids[step]) << "token " << step << " of the answer, recorded margin " << margins[step];
        session.decode(best);
    }
}

void follow(const std::string& name, Compute compute, const Tolerance& tolerance) {
    FASTKV_NEED("SmolLM2 (FASTKV_TEST_MODEL)", test::test_model());
    std::ifstream file(*test::shared_folder() + "/golden/" + name + ".json");
    const json golden = json::parse(file);
    Session session(model_with(compute), method_params(golden), {.n_predict = 64});
    session.prefill(golden.at("prompt").at("ids").get<std::vector<Token>>());
    compare_selection(golden, session, tolerance.overlap);
    compare_logits(golden, session.logits(), tolerance.logit);
    compare_answer(golden, session, tolerance.margin);
}

class Golden : public ::testing::TestWithParam<std::string> {};

TEST_P(Golden, Float32FollowsTheReference) { follow(GetParam(), Compute::f32, f32_tolerance); }

TEST_P(Golden, Bf16FollowsTheReference) {
    FASTKV_NEED("SmolLM2 (FASTKV_TEST_MODEL)", test::test_model());
    if (model_with(Compute::automatic).params().compute != Compute::bf16) {
        GTEST_SKIP() << "this processor has no fast bf16";
    }
    follow(GetParam(), Compute::automatic, bf16_tolerance);
}

std::string test_name(const ::testing::TestParamInfo<std::string>& info) {
    std::string name = info.param;
    std::replace_if(
        name.begin(), name.end(), [](char c) { return !std::isalnum(c); }, '_');
    return name;
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Golden);
INSTANTIATE_TEST_SUITE_P(Reference, Golden, ::testing::ValuesIn(golden_cases()), test_name);

TEST(GoldenFiles, AreThere) {
    FASTKV_NEED("the folder of recorded reference runs (FASTKV_SHARED)", !golden_cases().empty());
}

}  // namespace
}  // namespace fastkv
