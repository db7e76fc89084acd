#include "cli/eval.h"

#include <cstdio>
#include <set>

#include "bench/machine.h"
#include "cli/countdown.h"
#include "cli/interrupt.h"
#include "cli/number_list.h"
#include "cli/result_folder.h"
#include "cli/session_setup.h"
#include "cli/text.h"
#include "methods/values.h"

namespace fastkv::cli {

namespace {

using eval::Json;

constexpr const char* footer =
    R"(Every answer is a line of DIR/samples.jsonl as soon as it is there; DIR/summary.json says how they were made and what
they come to. The same command goes on where a run was cut off; more methods, lengths or samples can be added to a folder,
other settings of the model or the evaluation are refused.)";

// Everything that an answer depends on, beside its method.
Json identity(const EvalOptions& options, const Model& model, const eval::Measurement& evaluation,
              eval::Truncation truncation) {
    Json settings;
    settings["model_hash"] = model.hash();
    settings["compute"] = compute_name(model.params().compute);
    settings["ops"] = ops_name(model.params().ops);
    settings["cache_type_k"] = cache_type_name(options.model.cache_type_k);
    settings["cache_type_v"] = cache_type_name(options.model.cache_type_v);
    settings["n_ctx"] = context_size(options.model, model);
    settings["max_prompt"] = options.max_prompt.value_or(0);
    const bool reference = truncation == eval::Truncation::reference;
    settings["truncation"] = reference ? "reference" : "message";
    settings["reference_limits"] = reference;  // as folders have it
    settings.update(evaluation.settings());
    return settings;
}

Json this_run(const EvalOptions& options, const Model& model, const std::vector<MethodParams>& settings) {
    const HyperParams& hp = model.hparams();
    Json run;
    run["time"] = bench::utc_time();
    run["command"] = options.command;
    run["version"] = version();
    run["build"] = build_info();
    run["machine"] = {{"cpu", bench::cpu_name()},
                      {"n_threads", model.params().n_threads},
                      {"n_gpu_layers", model.params().n_gpu_layers}};
    run["model"] = {{"path", model.path()},      {"name", hp.name},         {"arch", hp.arch},
                    {"file_type", hp.file_type}, {"n_params", hp.n_params}, {"weights_bytes", hp.weights_bytes}};
    run["methods"] = Json::array();
    for (const MethodParams& setting : settings) run["methods"].push_back(method_text(setting));
    return run;
}

eval::RunParams run_params(const EvalOptions& options, const Model& model, eval::Truncation truncation) {
    eval::RunParams params;
    params.session.n_ctx = context_size(options.model, model);
    params.session.cache_type_k = options.model.cache_type_k;
    params.session.cache_type_v = options.model.cache_type_v;
    params.max_prompt = options.max_prompt.value_or(0);
    params.truncation = truncation;
    return params;
}

std::set<std::string> keys_of(const std::vector<eval::Row>& rows) {
    std::set<std::string> keys;
    for (const eval::Row& row : rows) keys.insert(row.key());
    return keys;
}

// Until everything is asked or Ctrl-C comes.
void ask_all(const Model& model, const eval::Measurement& evaluation, const std::vector<MethodParams>& settings,
             const eval::RunParams& params, ResultFolder& folder, Countdown& countdown) {
    catch_interrupts();
    bool expected = false;
    const auto on_progress = [&](const eval::RunProgress& now) {
        if (!expected) countdown.expect(now.work);
        expected = true;
        countdown.did_so_far(now.work_done);
        countdown.show(format("%d of %d, %s %s", now.n_done + 1, now.n_total, now.method.c_str(), now.sample.c_str()));
        return !interrupted();
    };
    eval::run_evaluation(
        model, evaluation, settings, keys_of(folder.rows()), params, [&](const eval::Row& row) { folder.add(row); },
        on_progress);
}

void write_results(const ResultFolder& folder, const eval::Measurement& evaluation) {
    Json tables = Json::array();
    for (const eval::Table& table : evaluation.tables(folder.rows())) tables.push_back(eval::table_json(table));
    folder.write_summary(tables);
    for (const auto& [name, content] : evaluation.files(folder.rows())) folder.write_file(name, content);
}

// The settings behind the short names, once each.
void print_settings(const std::vector<eval::Row>& rows) {
    for (const auto& [setting, name] : eval::setting_names(rows)) {
        if (name != setting) std::printf("%s: %s\n", name.c_str(), setting.c_str());
    }
}

void print_results(const ResultFolder& folder, const eval::Measurement& evaluation) {
    const std::vector<eval::Row>& rows = folder.rows();
    for (const eval::Table& table : evaluation.tables(rows)) std::printf("%s\n", eval::table_text(table).c_str());
    print_settings(rows);
    int n_cut = 0;
    for (const eval::Row& row : rows) n_cut += row.n_truncated > 0 ? 1 : 0;
    if (n_cut > 0) std::printf("%d of %zu prompts were too long and lost their middle.\n", n_cut, rows.size());
    std::printf("Scores in %%, with intervals of 95 %%. Everything is in %s.\n", folder.path().c_str());
    if (std::fflush(stdout) != 0) fail("cannot write the tables to standard output");
}

int report_failures(const std::vector<eval::Row>& rows) {
    int n_failed = 0;
    const eval::Row* first = nullptr;
    for (const eval::Row& row : rows) {
        if (!row.failed()) continue;
        if (n_failed++ == 0) first = &row;
    }
    if (n_failed == 0) return 0;
    std::fprintf(stderr, "fastkv: error: %d of %zu samples failed, the first (%s, %s): %s\n", n_failed, rows.size(),
                 first->id.c_str(), first->method.c_str(), first->error.c_str());
    return 1;
}

}  // namespace

void add_eval_options(CLI::App& command, EvalOptions& options, const std::string& data_help,
                      const std::string& limit_help) {
    command.footer(footer);
    command.option_defaults()->group("Data and results");
    command.add_option("-f,--data", options.data, data_help)->type_name("FILE|DIR");
    command
        .add_option_function<std::string>(
            "--limit",
            [&](const std::string& text) { options.limit = whole_number("--limit", text, "a whole number", 1); },
            limit_help)
        ->type_name("N");
    command
        .add_option_function<std::string>(
            "--max-prompt",
            [&](const std::string& text) {
                options.max_prompt = whole_number("--max-prompt", text, "a whole number", 1);
            },
            "cut longer prompts in the middle to N tokens (default: to what the context holds)")
        ->type_name("N");
    command.add_option("-o,--output", options.folder, "folder for the results (default eval-NAME-MODEL)")
        ->type_name("DIR");
    command.add_flag("--retry-failed", options.retry_failed, "ask again what failed in earlier runs");
    add_model_options(command, options.model);
    add_method_list_options(command, options.methods);
}

void add_truncation_option(CLI::App& command, std::function<void(eval::Truncation)> set) {
    static const Choices<eval::Truncation> protocols = {{"whole-template", eval::Truncation::message},
                                                        {"reference", eval::Truncation::reference}};
    command
        .add_option_function<std::string>(
            "--protocol",
            [set = std::move(set)](const std::string& text) { set(choose(protocols, "--protocol", text)); },
            "how a prompt that is too long is cut\nwhole-template: its message loses the middle\nreference: as the "
            "FastKV reference does it, which\nloses the chat template's control tokens, and cuts\nh2o's and "
            "pyramidinfer's prompts to 7,950 tokens\n(default whole-template)")
        ->type_name("NAME");
}

void add_eval_command(CLI::App& app, EvalOptions& options) {
    CLI::App* command = app.add_subcommand("eval", "Measure what methods cost in answers.");
    command->require_subcommand(1);
    command->footer("'fastkv eval NAME --help' explains an evaluation; docs/eval.md what each computes.");
    add_eval_needle(*command, options);
    add_eval_ruler(*command, options);
    add_eval_longbench(*command, options);
    add_eval_compare(*command, options);
    add_eval_oracle(*command, options);
}

int run_eval(const EvalOptions& options, const Model& model, const eval::Measurement& evaluation,
             eval::Truncation truncation) {
    const std::vector<MethodParams> settings = resolved_methods(options.methods, model);
    const std::string path =
        options.folder.empty() ? default_folder(evaluation.name(), options.model.path) : options.folder;
    ResultFolder folder(path, evaluation.name(), identity(options, model, evaluation, truncation),
                        options.retry_failed);
    if (!folder.rows().empty()) {
        std::fprintf(stderr, "fastkv: note: %s has %zu answers already; they are kept\n", path.c_str(),
                     folder.rows().size());
    }
    folder.begin_run(this_run(options, model, settings));
    folder.write_summary(Json::array());

    Countdown countdown;
    try {
        ask_all(model, evaluation, settings, run_params(options, model, truncation), folder, countdown);
    } catch (const Error& error) {
        countdown.clear();
        write_results(folder, evaluation);
        if (error.kind() == ErrorKind::cancelled) {
            std::fprintf(stderr, "fastkv: %zu answers are in %s; the same command goes on\n", folder.rows().size(),
                         path.c_str());
        }
        throw;
    }
    countdown.clear();
    write_results(folder, evaluation);
    print_results(folder, evaluation);
    return report_failures(folder.rows());
}

}  // namespace fastkv::cli
