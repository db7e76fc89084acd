#include "cli/tune.h"

#include <sstream>

#include "cli/number_list.h"
#include "cli/tune_bench.h"
#include "methods/values.h"

namespace fastkv::cli {

namespace {

constexpr const char* footer =
    R"(Without --check it chooses. First eq. 3 of the FastKV paper: how far the model's last hidden state moves when only
some tokens go on past a layer, for every layer. Then settings (layer, kernel, rates, window, score layers) within the
limits are asked questions about numbers hidden in the text; in every round the better half is asked on. The cheapest
one whose answers are within the noise of FullKV's (McNemar's test, 5 %), and within --tolerance on fresh prompts, is stored
under the model's hash in ~/.config/fastkv/tuned, and 'fastkv run' uses it where no parameter of the method is given.
A parameter that is given here is fixed, one of --try takes the values that are listed.

Examples:
  fastkv tune -m model.gguf -f book.txt --max-work 0.45 --max-cache 0.05 --plot curves.svg
  fastkv tune -m model.gguf -f book.txt --kernel auto --try tsp_layer=8,9,10,11 --prompts 64
  fastkv tune -m model.gguf --check -f book.txt -p 1000,4000 --prompts 200 --tsp-layer 9 --retain-rate 0.05
  fastkv tune -m model.gguf --check --rows niah_multikey_3.jsonl --answers answers.jsonl)";

void add_text(CLI::App& app, const std::string& names, const std::string& type, const std::string& help,
              std::function<void(const std::string&)> set) {
    app.add_option_function<std::string>(names, std::move(set), help)->type_name(type);
}

double parse_share(const std::string& flag, const std::string& text) {
    const auto share = parse_number<double>(flag, text, "a number");
    if (!(share > 0 && share <= 1)) refuse(flag + " " + text + " is outside (0, 1]");
    return share;
}

std::vector<tune::Task> parse_tasks(const std::string& text) {
    std::vector<tune::Task> tasks;
    std::istringstream items(text);
    for (std::string item; std::getline(items, item, ',');) {
        tasks.push_back(choose(tune::task_names(), "--task", item));
    }
    if (tasks.empty()) refuse("--task needs one of: " + join_names(tune::task_names(), ", "));
    return tasks;
}

void add_question_options(CLI::App& app, TuneOptions& options) {
    app.option_defaults()->group("Questions");
    app.add_option("-f,--file", options.files,
                   "texts to hide things in, UTF-8; cut and repeated to length (default: generated sentences)")
        ->type_name("FILE...");
    add_text(app, "-p,--lengths", "N,N,...", "prompt lengths in tokens (default 1000,2000)",
             [&](const std::string& text) { options.lengths = parse_lengths("-p", text); });
    add_text(app, "--task", "NAME,...",
             "what is hidden (default number):\n"
             "number: one number\nkeys: four, one is asked for\nvalues: four of one name, all are asked for\n"
             "lines: nothing but numbers, one is asked for\nuuids: nothing but codes of 36 characters",
             [&](const std::string& text) { options.tasks = parse_tasks(text); });
    add_text(
        app, "--prompts", "N",
        "prompts that finalists are asked, and again as many fresh ones; --check: per length (default 32)",
        [&](const std::string& text) { options.n_prompts = whole_number("--prompts", text, "a whole number", 1); });
    add_text(app, "-n,--predict", "N",
             "tokens that an answer may take (default 40; several numbers or codes 96, rows 64)",
             [&](const std::string& text) { options.n_predict = whole_number("-n", text, "a whole number", 1); });
    add_text(app, "-s,--seed", "N", "of everything that is drawn (default 1)", [&](const std::string& text) {
        options.seed = parse_number<uint64_t>("--seed", text, "a whole number from 0");
    });
    app.add_flag("--raw", options.raw, "no chat template");
    app.add_option("--answers", options.answers,
                   "keep answers in this file, as JSON lines, and do not ask again what it holds")
        ->type_name("FILE");
    add_text(app, "-o,--output", "md|json", "how results are printed (default md; --check: a JSON line per answer)",
             [&](const std::string& text) {
                 options.output = choose<std::string>({{"md", "md"}, {"json", "json"}}, "-o", text);
             });
}

void add_search_options(CLI::App& app, TuneOptions& options) {
    app.option_defaults()->group("Choosing");
    add_text(app, "--max-work", "R", "at most this share of FullKV's floating-point operations (default 0.6)",
             [&](const std::string& text) { options.max_work = parse_share("--max-work", text); });
    add_text(app, "--max-cache", "R", "at most this share of FullKV's cache (default 0.1)",
             [&](const std::string& text) { options.max_cache = parse_share("--max-cache", text); });
    add_text(app, "--tolerance", "R", "share of the fresh prompts that may be lost against FullKV (default 0.05)",
             [&](const std::string& text) { options.tolerance = parse_share("--tolerance", text); });
    add_text(
        app, "--settings", "N", "settings to try, drawn from all within the limits (default 32)",
        [&](const std::string& text) { options.n_settings = whole_number("--settings", text, "a whole number", 1); });
    app.add_option_function<std::vector<std::string>>(
           "--try",
           [&](const std::vector<std::string>& texts) {
               for (const std::string& text : texts) options.tries.push_back(tune::parse_dimension(text));
           },
           "values to try of a parameter, as in kernel=15,21,auto; more than once for several")
        ->type_name("NAME=V,V,...");
    app.add_option("--plot", options.plot, "draw the curves, as SVG")->type_name("FILE");
    app.add_flag("--no-store", options.no_store, "do not store the choice");
}

void add_check_options(CLI::App& app, TuneOptions& options) {
    app.option_defaults()->group("Measuring one setting");
    app.add_flag("--check", options.check, "ask the method as given, and FullKV, and print both with intervals");
    app.add_option("--rows", options.rows,
                   "questions of your own, JSON lines: {\"input\": text, \"outputs\": [answers]} as RULER's")
        ->type_name("FILE");
    app.add_flag("--no-full", options.no_full, "do not ask FullKV");
}

// What one of the two ways would ignore.
void refuse_idle(const TuneOptions& options) {
    const auto idle = [](bool given, const char* flag, const char* why) {
        if (given) refuse(std::string(flag) + " is not used " + why);
    };
    if (options.check) {
        constexpr const char* why = "with --check, which chooses nothing";
        idle(options.max_work.has_value(), "--max-work", why);
        idle(options.max_cache.has_value(), "--max-cache", why);
        idle(options.tolerance.has_value(), "--tolerance", why);
        idle(options.n_settings.has_value(), "--settings", why);
        idle(!options.tries.empty(), "--try", why);
        idle(!options.plot.empty(), "--plot", why);
        idle(options.no_store, "--no-store", why);
        idle(!options.rows.empty() && !options.files.empty(), "-f", "with --rows, which has texts of its own");
        return;
    }
    idle(!options.rows.empty(), "--rows", "without --check");
    idle(options.no_full, "--no-full", "without --check");
    idle(options.method.no_tuned, "--no-tuned", "without --check");
    idle(options.method.params.long_prompt.has_value(), "--long-prompt",
         "without --check: what is chosen holds for any length");
    if (options.method.params.method != "fastkv") {
        refuse("fastkv tune chooses for --method fastkv; --check measures " + options.method.params.method);
    }
}

}  // namespace

void add_tune_command(CLI::App& app, TuneOptions& options) {
    CLI::App* command = app.add_subcommand("tune", "Choose FastKV's parameters for a model, or measure one setting.");
    command->footer(footer);
    add_question_options(*command, options);
    add_search_options(*command, options);
    add_check_options(*command, options);
    add_model_options(*command, options.model);
    add_method_options(*command, options.method);
}

int tune_command(const TuneOptions& options) {
    refuse_idle(options);
    return options.check ? tune_check(options) : tune_search(options);
}

}  // namespace fastkv::cli
