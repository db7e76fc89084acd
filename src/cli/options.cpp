// Flags. llama.cpp's names where it has them (its users' fingers know them), ours for what it has not.
#include "cli/options.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <map>
#include <utility>

#include "cli/number_list.h"
#include "methods/values.h"
#include "text/words.h"

namespace fastkv::cli {

namespace {

const Choices<Compute> computes = {
    {"auto", Compute::automatic}, {"f32", Compute::f32}, {"bf16", Compute::bf16}, {"int8", Compute::int8}};
const Choices<CacheType> cache_types = {{"auto", CacheType::automatic}, {"f32", CacheType::f32},
                                        {"f16", CacheType::f16},        {"q8_0", CacheType::q8_0},
                                        {"q5_0", CacheType::q5_0},      {"q4_0", CacheType::q4_0}};
const Choices<Expand> expands = {{"auto", Expand::automatic}, {"always", Expand::always}, {"never", Expand::never}};
const Choices<Ops> ops_choices = {{"auto", Ops::automatic}, {"standard", Ops::standard}};

CLI::Option* add_text(CLI::App& app, const std::string& names, const std::string& type, const std::string& help,
                      std::function<void(const std::string&)> set) {
    return app.add_option_function<std::string>(names, std::move(set), help)->type_name(type);
}

// Flags whose value is a number.
template <class T>
void add_number(CLI::App& app, const std::string& names, const std::string& flag, const std::string& type, T& target,
                const std::string& help) {
    const std::string kind = std::is_integral_v<T> ? "a whole number" : "a number";
    add_text(app, names, type, help,
             [&target, flag, kind](const std::string& text) { target = parse_number<T>(flag, text, kind); });
}

int parse_gpu_layers(const std::string& text) {
    return text == "all" ? -1 : parse_number<int>("-ngl", text, "a number of layers, or all");
}

uint32_t parse_seed(const std::string& text) {
    const auto seed = parse_number<int64_t>("--seed", text, "a whole number");
    if (seed < -1 || seed > 0xFFFFFFFFll) refuse("--seed " + text + " is outside [0, 4294967295]; -1 is a random one");
    return static_cast<uint32_t>(seed);  // -1 becomes 0xFFFFFFFF, the mark of a random seed
}

std::string method_help() {
    std::string help = "what is kept and propagated (default fastkv):";
    for (const MethodInfo& info : list_methods()) help += "\n" + info.name + ": " + info.summary;
    return help;
}

}  // namespace

void add_model_options_but_threads(CLI::App& app, ModelOptions& options) {
    app.option_defaults()->group("Model");
    app.add_option("-m,--model", options.path, "the model, a GGUF file")->type_name("FILE")->required();
    add_text(app, "-c,--ctx-size", "N", "refuse prompts and answers past N tokens (default 0: the model's context)",
             [&](const std::string& text) { options.n_ctx = whole_number("-c", text, "a number of tokens", 0); });
    add_text(app, "--gpu-layers,--n-gpu-layers", "N",
             "layers on the GPU, counted from the last; all: every one (default 0)",
             [&](const std::string& text) { options.params.n_gpu_layers = parse_gpu_layers(text); });
    add_text(app, "--compute", join_names(computes, "|"),
             "arithmetic; int8 reads prompts faster, a little less exactly; f32 is to verify (default auto)",
             [&](const std::string& text) { options.params.compute = choose(computes, "--compute", text); });
    add_text(app, "--cache-type-k", join_names(cache_types, "|"),
             "how keys are cached (default auto: f16; fastkv on qwen2: q8_0)",
             [&](const std::string& text) { options.cache_type_k = choose(cache_types, "-ctk", text); });
    add_text(app, "--cache-type-v", join_names(cache_types, "|"),
             "how values are cached (default auto: f16; fastkv on qwen2: q4_0)",
             [&](const std::string& text) { options.cache_type_v = choose(cache_types, "-ctv", text); });
    add_text(app, "--ops", join_names(ops_choices, "|"), "operators on the CPU; standard: ggml's only (default auto)",
             [&](const std::string& text) { options.params.ops = choose(ops_choices, "--ops", text); });
    add_text(app, "--expand", join_names(expands, "|"),
             "whether weights expanded for a prompt stay for the next; auto: where a quarter of the memory holds them "
             "(default " +
                 name_of(expands, options.params.expand) + ")",
             [&](const std::string& text) { options.params.expand = choose(expands, "--expand", text); });
    app.add_flag("--mmap", options.params.mmap,
                 "weights stay in the mapped file, which other processes share: less memory, slower answers");
}

void add_model_options(CLI::App& app, ModelOptions& options) {
    add_model_options_but_threads(app, options);
    add_text(app, "-t,--threads", "N", "CPU threads (default 0: one per core)", [&](const std::string& text) {
        options.params.n_threads = whole_number("-t", text, "a number of threads", 0, max_threads);
    });
}

void add_method_options(CLI::App& app, MethodOptions& options) {
    app.option_defaults()->group(list_params().front().group);
    app.add_option("--method", options.params.method, method_help())->type_name("NAME");
    MethodParams& params = options.params;
    const std::vector<ParamInfo> infos = list_params();
    for (const ParamInfo& info : infos) {
        app.option_defaults()->group(info.group);
        add_text(app, info.flag, info.value, info.help,
                 [&params, name = info.name](const std::string& text) { set_param(params, name, text); });
    }
    app.option_defaults()->group(infos.front().group);
    app.add_flag("--no-tuned", options.no_tuned, "the defaults above, whatever fastkv tune has found for this model");
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

namespace {

const std::map<std::string, std::string> long_of = {
    {"-ngl", "--gpu-layers"}, {"-sys", "--system-prompt"}, {"-ctk", "--cache-type-k"}, {"-ctv", "--cache-type-v"}};

}  // namespace

std::string short_name(const std::string& long_name) {
    for (const auto& [name, of] : long_of) {
        if (of == long_name) return name;
    }
    return "";
}

std::vector<std::string> long_names(int argc, char** argv) {
    std::vector<std::string> arguments;
    for (int i = 1; i < argc; ++i) {
        const auto found = long_of.find(argv[i]);
        arguments.push_back(found == long_of.end() ? argv[i] : found->second);
    }
    return arguments;
}

std::string command_line(int argc, char** argv) {
    std::string line;
    for (int i = 0; i < argc; ++i) {
        std::string argument = argv[i];
        const auto harmless = [](char c) {
            return std::isalnum(static_cast<unsigned char>(c)) || std::strchr("-_./:=,+@%", c);
        };
        if (argument.empty() || !std::all_of(argument.begin(), argument.end(), harmless)) {
            argument = "'" + text::replaced(argument, "'", "'\\''") + "'";
        }
        line.append(i > 0 ? " " : "").append(argument);
    }
    return line;
}

std::vector<int> parse_lengths(const std::string& flag, const std::string& text) {
    return parse_number_list(flag, text, "a number of tokens", /*least=*/1);
}

std::string cache_type_name(CacheType type) { return name_of(cache_types, type); }

std::string compute_name(Compute compute) { return name_of(computes, compute); }
std::string ops_name(Ops ops) { return name_of(ops_choices, ops); }

}  // namespace fastkv::cli
