// The methods and their variants, as tests go through them.
#pragma once

#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "fastkv/method.h"

namespace fastkv::test {

struct Variant {
    std::string name;
    std::string method;
    std::vector<std::pair<std::string, std::string>> set;  ///< parameters by name, as set_param() reads them
    bool evicts = false;                                   ///< while decoding

    MethodParams params() const {
        MethodParams params;
        params.method = method;
        for (const auto& [name_of, text] : set) set_param(params, name_of, text);
        return params;
    }
};

inline std::ostream& operator<<(std::ostream& out, const Variant& variant) { return out << variant.name; }

/// For models of four layers or more and prompts of up to a few hundred tokens.
inline std::vector<Variant> variants() {
    using Set = decltype(Variant::set);
    const auto with = [](Set set, const Set& more) {
        set.insert(set.end(), more.begin(), more.end());
        return set;
    };
    const Set tsp = {{"retain_rate", "0.2"}, {"tsp_rate", "0.4"}, {"tsp_layer", "2"}};
    const Set budget = {{"budget", "40"}};
    const Set evict = {{"h2o_decode", "evict"}};
    const Set query_head = {{"select_per", "query-head"}};
    return {
        {"FullKv", "fullkv", {}},
        {"FastKv", "fastkv", {{"retain_rate", "0.2"}, {"tsp_rate", "0.4"}}},
        {"FastKvTspOff", "fastkv", {{"tsp_layer", "off"}}},
        {"FastKvBudget", "fastkv", {{"budget", "40"}, {"tsp_len", "60"}}},
        {"FastKvAvg", "fastkv", {{"pooling", "avg"}, {"kernel", "5"}}},
        {"FastKvKernelAuto", "fastkv", with(tsp, {{"kernel", "auto"}})},
        {"FastKvHeadFloor", "fastkv", with(tsp, {{"head_floor", "0.2"}})},
        {"FastKvPyramid", "fastkv", with(tsp, {{"layer_budget", "pyramid"}})},
        {"FastKvUpper", "fastkv", with(tsp, {{"layer_budget", "upper"}})},
        {"FastKvScoreLayers", "fastkv", with(tsp, {{"tsp_score_layers", "3"}})},
        {"FastKvAllVariants", "fastkv",
         with(tsp, {{"tsp_score_layers", "3"}, {"layer_budget", "pyramid"}, {"head_floor", "0"}})},
        {"FastKvExpected", "fastkv", with(tsp, {{"score", "expected"}, {"sinks", "2"}})},
        {"SnapKv", "snapkv", {{"retain_rate", "0.2"}}},
        {"SnapKvExpectedQueryHead", "snapkv", with(query_head, {{"retain_rate", "0.2"}, {"score", "expected"}})},
        {"SnapKvQueryHead", "snapkv", with(query_head, {{"retain_rate", "0.2"}})},
        {"SnapKvBudget", "snapkv", budget},
        {"SnapKvAvg", "snapkv", {{"pooling", "avg"}}},
        {"SnapKvKernelAuto", "snapkv", {{"kernel", "auto"}}},
        {"SnapKvHeadFloor", "snapkv", {{"retain_rate", "0.2"}, {"head_floor", "0.2"}}},
        {"SnapKvHeadFloorQueryHead", "snapkv", with(query_head, {{"retain_rate", "0.2"}, {"head_floor", "0.2"}})},
        {"SnapKvPyramid", "snapkv", {{"retain_rate", "0.2"}, {"layer_budget", "pyramid"}}},
        {"SnapKvUpper", "snapkv", {{"retain_rate", "0.2"}, {"layer_budget", "upper"}}},
        {"SnapKvTsp", "snapkv", tsp},
        {"SnapKvTspQueryHead", "snapkv", with(tsp, with(query_head, {{"tsp_score_layers", "3"}}))},
        {"H2o", "h2o", {{"retain_rate", "0.2"}}},
        {"H2oReference", "h2o", with(query_head, {{"retain_rate", "0.2"}, {"h2o_mask", "reference"}})},
        {"H2oBudget", "h2o", budget},
        {"H2oHeadFloor", "h2o", {{"retain_rate", "0.2"}, {"head_floor", "0.2"}}},
        {"H2oPyramid", "h2o", {{"retain_rate", "0.2"}, {"layer_budget", "pyramid"}}},
        {"H2oTsp", "h2o", with(tsp, {{"tsp_score_layers", "3"}})},
        {"H2oEvict", "h2o", with(evict, {{"retain_rate", "0.2"}}), true},
        {"H2oEvictQueryHead", "h2o", with(evict, with(query_head, {{"retain_rate", "0.2"}})), true},
        {"H2oEvictBudget", "h2o", with(evict, with(budget, {{"h2o_recent", "0"}})), true},
        {"H2oEvictBudgetQueryHead", "h2o", with(evict, with(query_head, {{"budget", "12"}})), true},
        {"H2oEvictTsp", "h2o", with(evict, tsp), true},
        {"H2oEvictPyramid", "h2o", with(evict, {{"retain_rate", "0.2"}, {"layer_budget", "pyramid"}}), true},
        {"StreamingLlm", "streamingllm", {}},
        {"StreamingLlmBudget", "streamingllm", with(budget, {{"sinks", "0"}})},
        {"StreamingLlmRolling", "streamingllm", {{"retain_rate", "0.2"}, {"streaming", "rolling"}}, true},
        {"StreamingLlmRollingBudget", "streamingllm", with(budget, {{"streaming", "rolling"}}), true},
        {"StreamingLlmRollingSmall",
         "streamingllm",
         {{"budget", "11"}, {"sinks", "6"}, {"streaming", "rolling"}},
         true},
        {"GemFilter", "gemfilter", {{"retain_rate", "0.2"}}},
        {"GemFilterBudget", "gemfilter", with(budget, {{"filter_layer", "3"}})},
        {"PyramidInfer", "pyramidinfer", {{"pyramid_min_context", "8"}}, true},
        {"PyramidInferReference",
         "pyramidinfer",
         {{"pyramid_preset", "llama-0.35"}, {"pyramid_min_context", "8"}, {"pyramid_decode", "reference"}},
         true},
        {"PyramidInferHalf", "pyramidinfer", {{"pyramid_preset", "llama-0.5"}, {"sinks", "2"}}, true},
        {"PyramidInferReferenceHalf",
         "pyramidinfer",
         {{"pyramid_preset", "nemo-0.6"}, {"pyramid_decode", "reference"}},
         true},
    };
}

}  // namespace fastkv::test
