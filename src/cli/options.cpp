// Flags. llama.cpp's names where it has them (its users' fingers know them), ours for what it has not.
#include "cli/options.h"

#include <charconv>
#include <map>
#include <utility>

namespace fastkv::cli {

namespace {

template <class T>
using Choices = std::vector<std::pair<std::string, T>>;

const Choices<Pooling> poolings = {{"max", Pooling::max}, {"avg", Pooling::avg}};
const Choices<Compute> computes = {{"auto", Compute::automatic}, {"f32", Compute::f32}, {"bf16", Compute::bf16}};
const Choices<Ops> ops_choices = {{"auto", Ops::automatic}, {"standard", Ops::standard}};

template <class T>
std::string name_of(const Choices<T>& choices, T value) {
    for (const auto& [name, choice] : choices) {
        if (choice == value) return name;
    }
    return "?";
}

template <class T>
T choose(const Choices<T>& choices, const std::string& flag, const std::string& text) {
    std::string known;
    for (const auto& [name, value] : choices) {
        if (name == text) return value;
        known += (known.empty() ? "" : ", ") + name;
    }
    refuse(flag + " " + text + " is unknown; there are: " + known);
}

// The whole text as a number, and nothing beside it.
template <class T>
T number(const std::string& flag, const std::string& text, const char* kind) {
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error == std::errc::result_out_of_range) refuse(flag + " " + text + " is out of range");
    if (error != std::errc() || end != text.data() + text.size()) refuse(flag + " " + text + " is not " + kind);
    return value;
}

CLI::Option* add_text(CLI::App& app, const std::string& names, const std::string& type, const std::string& help,
                      std::function<void(const std::string&)> set) {
    return app.add_option_function<std::string>(names, std::move(set), help)->type_name(type);
}

// Flags whose value is a number: `target` is a number or an optional one.
template <class T>
void add_number(CLI::App& app, const std::string& names, const std::string& flag, const std::string& type, T& target,
                const std::string& help) {
    add_text(app, names, type, help, [&target, flag](const std::string& text) {
        if constexpr (std::is_same_v<T, int>) target = number<int>(flag, text, "a whole number");
        if constexpr (std::is_same_v<T, std::optional<int>>) target = number<int>(flag, text, "a whole number");
        if constexpr (std::is_same_v<T, float>) target = number<float>(flag, text, "a number");
        if constexpr (std::is_same_v<T, std::optional<double>>) target = number<double>(flag, text, "a number");
    });
}

int parse_gpu_layers(const std::string& text) {
    return text == "all" ? -1 : number<int>("-ngl", text, "a number of layers, or all");
}

int parse_tsp_layer(const std::string& text) {
    if (text == "off") return TspLayer::off;
    const int layer = number<int>("--tsp-layer", text, "a layer, or off");
    if (layer < 0) refuse("--tsp-layer " + text + " is outside the model: layers count from 0; or off");
    return layer;
}

uint32_t parse_seed(const std::string& text) {
    const auto seed = number<int64_t>("--seed", text, "a whole number");
    if (seed < -1 || seed > 0xFFFFFFFFll) refuse("--seed " + text + " is outside [0, 4294967295]; -1 is a random one");
    return static_cast<uint32_t>(seed);  // -1 becomes 0xFFFFFFFF, the mark of a random seed
}

std::string method_help() {
    std::string help = "what is kept and propagated (default fastkv):";
    for (const MethodInfo& info : list_methods()) help += "\n" + info.name + ": " + info.summary;
    return help;
}

}  // namespace

void add_model_options(CLI::App& app, ModelOptions& options) {
    app.option_defaults()->group("Model");
    app.add_option("-m,--model", options.path, "the model, a GGUF file")->type_name("FILE")->required();
    add_text(app, "-c,--ctx-size", "N", "refuse prompts and answers past N tokens (default 0: the model's context)",
             [&](const std::string& text) {
                 options.n_ctx = number<int>("-c", text, "a number of tokens");
                 if (options.n_ctx < 0) refuse("-c " + text + " is below 0");
             });
    add_text(app, "-t,--threads", "N", "CPU threads (default 0: one per core)", [&](const std::string& text) {
        options.params.n_threads = number<int>("-t", text, "a number of threads");
        if (options.params.n_threads < 0) refuse("-t " + text + " is below 0");
        if (options.params.n_threads > 1024) refuse("-t " + text + " is above 1024");
    });
    add_text(app, "--gpu-layers,--n-gpu-layers", "N",
             "layers on the GPU, counted from the last; all: every one (default 0)",
             [&](const std::string& text) { options.params.n_gpu_layers = parse_gpu_layers(text); });
    add_text(app, "--compute", "KIND", "arithmetic: auto, f32 (to verify), bf16 (default auto)",
             [&](const std::string& text) { options.params.compute = choose(computes, "--compute", text); });
    add_text(app, "--ops", "KIND", "operators on the CPU: auto, standard (ggml's only) (default auto)",
             [&](const std::string& text) { options.params.ops = choose(ops_choices, "--ops", text); });
}

void add_method_options(CLI::App& app, MethodParams& params) {
    app.option_defaults()->group("Method (rates are the shares that are kept)");
    app.add_option("--method", params.method, method_help())->type_name("NAME");
    add_number(app, "--retain-rate", "--retain-rate", "R", params.retain_rate,
               "share of the prompt that each layer caches (default 0.1)");
    add_number(app, "--tsp-rate", "--tsp-rate", "R", params.tsp_rate,
               "share of the prompt that goes on past the TSP layer (default 0.2)");
    add_text(app, "--tsp-layer", "N|off", "the TSP layer, from 0 (default: the published one, or half-way)",
             [&](const std::string& text) { params.tsp_layer = parse_tsp_layer(text); });
    add_number(app, "--window", "--window", "N", params.window,
               "the last tokens, which score the others and stay (default 8)");
    add_number(app, "--kernel", "--kernel", "N", params.kernel,
               "neighbours that a score is pooled over, odd (default 7)");
    add_text(app, "--pooling", "KIND", "how: max, avg (default max)",
             [&](const std::string& text) { params.pooling = choose(poolings, "--pooling", text); });
    add_number(app, "--budget", "--budget", "N", params.budget,
               "tokens that each layer caches, instead of --retain-rate");
    add_number(app, "--tsp-len", "--tsp-len", "N", params.tsp_len,
               "with --budget: tokens that go on, instead of --tsp-rate (default 2048)");
}

void add_sampling_options(CLI::App& app, SamplerParams& params) {
    app.option_defaults()->group("Sampling");
    add_number(app, "--temp", "--temp", "T", params.temperature,
               "temperature (default 0: always the most likely token)");
    add_number(app, "--top-k", "--top-k", "N", params.top_k, "sample from the N best (default 40; 0: all)");
    add_number(app, "--top-p", "--top-p", "P", params.top_p,
               "sample from the best that sum to P (default 0.95; 1: all)");
    add_number(app, "--min-p", "--min-p", "P", params.min_p, "drop those below P of the best (default 0.05; 0: none)");
    add_text(app, "-s,--seed", "N", "seed (default -1: a random one)",
             [&](const std::string& text) { params.seed = parse_seed(text); });
    add_number(app, "--repeat-penalty", "--repeat-penalty", "X", params.repeat_penalty,
               "divide the logits of the last 64 tokens (default 1: off)");
    app.add_flag("--ignore-eos", params.ignore_eos, "never pick a token that ends the answer");
}

std::vector<std::string> long_names(int argc, char** argv) {
    static const std::map<std::string, std::string> long_of = {{"-ngl", "--gpu-layers"}};
    std::vector<std::string> arguments;
    for (int i = 1; i < argc; ++i) {
        const auto found = long_of.find(argv[i]);
        arguments.push_back(found == long_of.end() ? argv[i] : found->second);
    }
    return arguments;
}

int whole_number(const std::string& flag, const std::string& text, const char* kind) {
    return number<int>(flag, text, kind);
}

std::string method_text(const MethodParams& params) {
    std::string text = params.method;
    const auto add = [&](const std::string& flag, const auto& value) {
        if (!value) return;
        std::ostringstream out;
        out << *value;
        text += " " + flag + " " + out.str();
    };
    add("--retain-rate", params.retain_rate);
    add("--budget", params.budget);
    add("--tsp-rate", params.tsp_rate);
    add("--tsp-len", params.tsp_len);
    if (params.tsp_layer == TspLayer::off) {
        text += " --tsp-layer off";
    } else {
        add("--tsp-layer", params.tsp_layer);
    }
    add("--window", params.window);
    add("--kernel", params.kernel);
    if (params.pooling) text += " --pooling " + pooling_name(*params.pooling);
    return text;
}

std::string pooling_name(Pooling pooling) { return name_of(poolings, pooling); }
std::string compute_name(Compute compute) { return name_of(computes, compute); }
std::string ops_name(Ops ops) { return name_of(ops_choices, ops); }

}  // namespace fastkv::cli
