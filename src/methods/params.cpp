// The parameters of all methods: each stands here once, with its name, its help and how it reads as text.
#include <algorithm>
#include <type_traits>
#include <variant>

#include "methods/params_check.h"

namespace fastkv {

namespace {

// ---- the words of the choices ------------------------------------------------------------------------------

template <class T>
const Choices<T> choices;
template <>
const Choices<Pooling> choices<Pooling> = {{"max", Pooling::max}, {"avg", Pooling::avg}};
template <>
const Choices<ScoreBy> choices<ScoreBy> = {{"window", ScoreBy::window}, {"expected", ScoreBy::expected}};
template <>
const Choices<SelectPer> choices<SelectPer> = {{"kv-head", SelectPer::kv_head}, {"query-head", SelectPer::query_head}};
template <>
const Choices<LayerBudget> choices<LayerBudget> = {
    {"even", LayerBudget::even}, {"pyramid", LayerBudget::pyramid}, {"upper", LayerBudget::upper}};
template <>
const Choices<H2oMask> choices<H2oMask> = {{"causal", H2oMask::causal}, {"reference", H2oMask::reference}};
template <>
const Choices<H2oDecode> choices<H2oDecode> = {{"keep", H2oDecode::keep}, {"evict", H2oDecode::evict}};
template <>
const Choices<Streaming> choices<Streaming> = {{"original", Streaming::original}, {"rolling", Streaming::rolling}};
template <>
const Choices<PyramidDecode> choices<PyramidDecode> = {{"guarded", PyramidDecode::guarded},
                                                       {"reference", PyramidDecode::reference}};

// ---- the table -----------------------------------------------------------------------------------------------

template <class T>
using Field = std::optional<T> MethodParams::*;

using AnyField =
    std::variant<Field<double>, Field<int>, Field<std::string>, Field<Pooling>, Field<ScoreBy>, Field<SelectPer>,
                 Field<LayerBudget>, Field<H2oMask>, Field<H2oDecode>, Field<Streaming>, Field<PyramidDecode>>;

// A value of a whole number that has a word of its own; text gives it by that word alone.
struct Word {
    std::string text;  // empty: none
    int value = 0;
};

struct Param {
    std::string name;
    std::string value;  // what stands behind the flag; empty: the words of a choice
    AnyField field;
    std::string help;
    Word word = {};
};

struct Group {
    std::string name;
    std::vector<Param> params;
};

using P = MethodParams;

const Group param_table[] = {
    {"Method (rates are the shares that are kept)",
     {
         {"retain_rate", "R", &P::retain_rate,
          "share of the prompt that each layer caches (default 0.1; fastkv on qwen2: 0.118)"},
         {"tsp_rate", "R", &P::tsp_rate, "share of the prompt that goes on past the TSP layer (default 0.2)"},
         {"tsp_layer",
          "N|off",
          &P::tsp_layer,
          "the TSP layer, from 0 (default: fastkv: the published one, or half-way; snapkv, h2o: off)",
          {"off", TspLayer::off}},
         {"window", "N", &P::window,
          "the last tokens, which score the others and stay (default 8; fastkv on qwen2: 64)"},
         {"kernel",
          "N|auto",
          &P::kernel,
          "neighbours that a score is pooled over, odd; auto: whole numbers and words as well (default 7; "
          "fastkv on qwen2 and --score expected: auto)",
          {"auto", MethodParams::kernel_auto}},
         {"pooling", "", &P::pooling, "how they are pooled (default max)"},
         {"budget", "N", &P::budget, "tokens that each layer caches, instead of --retain-rate"},
         {"min_budget", "N", &P::min_budget,
          "with --retain-rate: at least N tokens are cached, and go on (default 0; fastkv on qwen2: 115)"},
         {"tsp_len", "N", &P::tsp_len, "with --budget: tokens that go on, instead of --tsp-rate (default 2048)"},
         {"long_prompt", "N", &P::long_prompt,
          "fastkv: from N tokens of prompt on the next three hold instead (default: never; on qwen2: 3500)"},
         {"long_tsp_layer", "N", &P::long_tsp_layer,
          "the TSP layer of a long prompt (default: --tsp-layer; on qwen2: 3/8 of the layers)"},
         {"long_tsp_rate", "R", &P::long_tsp_rate,
          "what goes on of a long prompt (default: --tsp-rate; on qwen2: 0.1)"},
         {"long_window", "N", &P::long_window, "the window of a long prompt (default: --window; on qwen2: 32)"},
     }},
    {"Variants of fastkv, snapkv and h2o",
     {
         {"select_per", "", &P::select_per,
          "snapkv, h2o: which heads choose; query heads take several times the memory (default kv-head)"},
         {"score", "", &P::score,
          "fastkv, snapkv: who scores: the window, or any question to be expected (default window)"},
         {"tsp_score_layers", "N", &P::tsp_score_layers,
          "who goes on is decided by the maximum of N layers' scores (default 1)"},
         {"head_floor", "R", &P::head_floor,
          "heads share a layer's budget by score, each has at least R of its own (default 1: all alike)"},
         {"layer_budget", "", &P::layer_budget,
          "which layers cache more: pyramid: lower ones; upper: those past the TSP layer (default even; fastkv on "
          "qwen2: upper)"},
     }},
    {"h2o",
     {
         {"h2o_mask", "", &P::h2o_mask, "reference: scoring tokens see later ones too (default causal)"},
         {"h2o_decode", "", &P::h2o_decode, "evict: the answer, too, stays within the budget (default keep)"},
         {"h2o_recent", "R", &P::h2o_recent, "with evict: share of the budget for the latest tokens (default 0.5)"},
     }},
    {"streamingllm",
     {
         {"sinks", "N", &P::sinks,
          "first tokens, which always stay; also of pyramidinfer, and with --score expected (default 4)"},
         {"streaming", "", &P::streaming, "rolling: the answer, too, stays within the budget (default original)"},
     }},
    {"gemfilter",
     {
         {"filter_layer", "N", &P::filter_layer,
          "the layer that chooses, from 0 (default: the published one, or about as deep)"},
     }},
    {"pyramidinfer",
     {
         {"pyramid_preset", "NAME", &P::pyramid_preset,
          "the reference's values for a model and a share (default llama-0.6)"},
         {"pyramid_recent", "R", &P::pyramid_recent, "share of the prompt, at its end, that scores and stays"},
         {"pyramid_decay", "R", &P::pyramid_decay, "share of its context that the last layer would pass on"},
         {"pyramid_min_context", "N", &P::pyramid_min_context, "a smaller context is not reduced (default 64)"},
         {"pyramid_distance_weight", "X", &P::pyramid_distance_weight,
          "weight of the last scoring token; the first has 1 (default 1.2)"},
         {"pyramid_decode", "", &P::pyramid_decode, "how the answer's layers are thinned out (default guarded)"},
         {"pyramid_decode_keep", "R", &P::pyramid_decode_keep, "share of a block that stays then (default 0.9)"},
         {"pyramid_decode_block", "N", &P::pyramid_decode_block, "tokens of a block (default 16)"},
     }},
};

std::string flag_of(const Param& param) {
    std::string flag = "--" + param.name;
    std::replace(flag.begin(), flag.end(), '_', '-');
    return flag;
}

const Param& find_param(const std::string& name) {
    for (const Group& group : param_table) {
        for (const Param& param : group.params) {
            if (param.name == name) return param;
        }
    }
    refuse("there is no parameter " + name);
}

// ---- text ------------------------------------------------------------------------------------------------------

template <class T>
std::string value_text(const Param& param, const T& value) {
    if constexpr (std::is_same_v<T, int>) {
        return !param.word.text.empty() && value == param.word.value ? param.word.text : std::to_string(value);
    } else if constexpr (std::is_same_v<T, double>) {
        return number_text(value);
    } else if constexpr (std::is_same_v<T, std::string>) {
        return value;
    } else {
        return name_of(choices<T>, value);
    }
}

// A number of something, or its word. What has a word has marks among the numbers, which text cannot give.
int parse_count(const Param& param, const std::string& text) {
    const std::string flag = flag_of(param);
    const Word& word = param.word;
    if (word.text.empty()) return parse_number<int>(flag, text, "a whole number");
    if (text == word.text) return word.value;
    const int value = parse_number<int>(flag, text, "a whole number, or " + word.text);
    if (value < 0 || value == word.value) refuse(flag + " " + text + " is too small; or " + word.text);
    return value;
}

template <class T>
T parse_value(const Param& param, const std::string& text) {
    if constexpr (std::is_same_v<T, int>) {
        return parse_count(param, text);
    } else if constexpr (std::is_same_v<T, double>) {
        return parse_number<double>(flag_of(param), text, "a number");
    } else if constexpr (std::is_same_v<T, std::string>) {
        return text;
    } else {
        return choose(choices<T>, flag_of(param), text);
    }
}

bool is_given(const MethodParams& params, const std::string& name) {
    return std::visit([&](auto field) { return (params.*field).has_value(); }, find_param(name).field);
}

template <class T>
std::string words_of(Field<T>) {
    if constexpr (std::is_enum_v<T>) return join_names(choices<T>, "|");
    return "";
}

}  // namespace

std::vector<ParamInfo> list_params() {
    std::vector<ParamInfo> infos;
    for (const Group& group : param_table) {
        for (const Param& param : group.params) {
            const std::string words = std::visit([](auto field) { return words_of(field); }, param.field);
            const std::string& value = words.empty() ? param.value : words;
            infos.push_back({param.name, flag_of(param), value, group.name, param.help});
        }
    }
    return infos;
}

void set_param(MethodParams& params, const std::string& name, const std::string& text) {
    const Param& param = find_param(name);
    const auto set = [&]<class T>(Field<T> field) { params.*field = parse_value<T>(param, text); };
    std::visit(set, param.field);
}

void clear_param(MethodParams& params, const std::string& name) {
    std::visit([&](auto field) { (params.*field).reset(); }, find_param(name).field);
}

std::string param_text(const MethodParams& params, const std::string& name) {
    const Param& param = find_param(name);
    const auto read = [&](auto field) { return params.*field ? value_text(param, *(params.*field)) : std::string(); };
    return std::visit(read, param.field);
}

std::string method_text(const MethodParams& params) {
    std::string text = params.method;
    for (const ParamInfo& info : list_params()) {
        const std::string value = param_text(params, info.name);
        if (!value.empty()) text += " " + info.flag + " " + value;
    }
    return text;
}

void refuse_foreign(const MethodParams& params, const MethodInfo& info, const std::string& why) {
    for (const ParamInfo& param : list_params()) {
        const bool used = std::find(info.params.begin(), info.params.end(), param.name) != info.params.end();
        if (!used && is_given(params, param.name)) refuse(param.flag + " is not used by " + info.name + ", " + why);
    }
}

}  // namespace fastkv
