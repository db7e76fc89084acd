// Everything here is planned, not run: the same plans that a prefill follows, multiplied out.
#include "cli/inspect.h"

#include <cstdio>

#include "cli/method_choice.h"
#include "cli/text.h"
#include "methods/schedule.h"

namespace fastkv::cli {

namespace {

void print_line(const char* name, const std::string& text) { std::printf("%-18s %s\n", name, text.c_str()); }

void print_facts(const Model& model) {
    const HyperParams& hp = model.hparams();
    print_line("file", model.path());
    print_line("name", hp.name.empty() ? "(none)" : hp.name);
    print_line("architecture", hp.arch);
    print_line("parameters",
               count_text(hp.n_params) + ", mostly " + hp.file_type + ", " + bytes_text(hp.weights_bytes));
    print_line("context", count_text(hp.n_ctx_train) + " tokens");
    print_line("layers", std::to_string(hp.n_layer));
    print_line("width", format("%d, feed-forward %d", hp.n_embd, hp.n_ff));
    print_line("heads", format("%d query, %d key/value, of %d", hp.n_head, hp.n_head_kv, hp.head_dim));
    print_line("rotation",
               format("%d dimensions, base %g, scale %g", hp.n_rot, double(hp.rope_theta), double(hp.rope_freq_scale)));
    if (hp.sliding_window > 0) print_line("sliding window", count_text(hp.sliding_window) + " tokens");
    print_line("vocabulary", count_text(hp.n_vocab) + " tokens");
    print_line("chat template", model.has_chat_template() ? "yes" : "no");
    print_line("compute", compute_name(model.params().compute) + format(", %d threads", model.params().n_threads));
}

// A run of layers that receive and cache the same numbers of tokens.
struct LayerRun {
    int first, last, rows, cached;
};

std::vector<LayerRun> layer_runs(const MethodParams& params, int n_layer, int n_prompt) {
    std::vector<LayerRun> runs;
    for (const auto& [at, plan, cached, passed] : plan_prompt(find_method(params.method), params, n_layer, n_prompt)) {
        if (!runs.empty() && runs.back().rows == at.n_rows && runs.back().cached == cached) {
            runs.back().last = at.layer;
        } else {
            runs.push_back({at.layer, at.layer, at.n_rows, cached});
        }
    }
    return runs;
}

std::string runs_text(const std::vector<LayerRun>& runs) {
    std::string text;
    const size_t shown = 4;  // of a schedule that changes with every layer only its ends
    for (size_t i = 0; i < runs.size(); ++i) {
        const LayerRun& run = runs[i];
        const bool left_out = runs.size() > shown && i > 0 && i + 1 < runs.size();
        if (left_out) {
            if (i == 1) text += "; ...";
            continue;
        }
        text += text.empty() ? "" : "; ";
        text += run.first == run.last ? format("%d", run.first) : format("%d-%d", run.first, run.last);
        text += ": " + count_text(run.rows) + " -> " + count_text(run.cached);
    }
    return text;
}

// The method that the flags speak of, with them; every other as it is by default.
std::vector<MethodParams> methods_to_show(const InspectOptions& options, const Model& model) {
    std::vector<MethodParams> methods;
    const HyperParams& hparams = model.hparams();
    const MethodParams chosen = resolve(choose_method(options.method, model), hparams);
    for (const MethodInfo& info : list_methods()) {
        MethodParams defaults;
        defaults.method = info.name;
        methods.push_back(info.name == chosen.method ? chosen : resolve(defaults, hparams));
    }
    return methods;
}

void print_costs(const Model& model, const std::vector<MethodParams>& methods, const std::vector<int>& lengths,
                 const SessionParams& session) {
    std::printf("\n%9s  %-12s %8s %12s %12s  %s\n", "prompt", "method", "compute", "cache", "peak memory",
                "layers: tokens received -> cached");
    for (const int length : lengths) {
        for (const MethodParams& method : methods) {
            const CostEstimate cost = estimate(model, method, length, session);
            std::printf("%9s  %-12s %6.1f %% %12s %12s  %s\n", count_text(length).c_str(), method.method.c_str(),
                        100 * cost.prefill_share, bytes_text(cost.kv_cache_bytes).c_str(),
                        bytes_text(cost.peak_bytes() + model.hparams().weights_bytes).c_str(),
                        runs_text(layer_runs(method, model.hparams().n_layer, length)).c_str());
        }
    }
    std::printf(
        "\ncompute: floating-point operations, of fullkv's. cache: after the prompt, with %d tokens set aside for "
        "the\nanswer. peak memory: weights, cache and working buffers.\n\n",
        session.n_predict);
    for (const MethodParams& method : methods) std::printf("%s\n", method_text(method).c_str());
}

std::vector<int> default_lengths(int n_ctx) {
    std::vector<int> lengths;
    for (const int length : {1000, 4000, 8000, 16000, 32000, 64000, 128000}) {
        if (length <= n_ctx) lengths.push_back(length);
    }
    return lengths.empty() ? std::vector{n_ctx} : lengths;
}

}  // namespace

void add_inspect_command(CLI::App& app, InspectOptions& options) {
    CLI::App* command = app.add_subcommand("inspect", "A model's facts, and what each method would cost.");
    command->footer(
        "Examples:\n  fastkv inspect -m model.gguf\n"
        "  fastkv inspect -m model.gguf -p 8000,32000 --retain-rate 0.2 --tsp-layer 17");
    command->option_defaults()->group("Lengths");
    command
        ->add_option_function<std::string>(
            "-p,--lengths", [&](const std::string& text) { options.lengths = parse_lengths("-p", text); },
            "prompt lengths in tokens, separated by commas (default 1000,4000,... up to the context)")
        ->type_name("N,N,...");
    add_model_options(*command, options.model);
    add_method_options(*command, options.method);
}

int inspect(const InspectOptions& options) {
    const Model model = Model::load(options.model.path, options.model.params);
    const auto methods = methods_to_show(options, model);
    const int n_ctx = options.model.n_ctx > 0 ? options.model.n_ctx : model.hparams().n_ctx_train;
    print_facts(model);
    SessionParams session;
    session.cache_type_k = options.model.cache_type_k;
    session.cache_type_v = options.model.cache_type_v;
    print_costs(model, methods, options.lengths.empty() ? default_lengths(n_ctx) : options.lengths, session);
    return 0;
}

}  // namespace fastkv::cli
