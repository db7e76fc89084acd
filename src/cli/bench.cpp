// Everything that can be refused is refused before anything is measured.
#include "cli/bench.h"

#include <algorithm>
#include <climits>
#include <cstdio>
#include <random>

#include "bench/comparison.h"
#include "bench/machine.h"
#include "cli/bench_output.h"
#include "cli/interrupt.h"
#include "cli/method_choice.h"
#include "cli/number_list.h"
#include "cli/progress.h"
#include "cli/session_setup.h"
#include "cli/text.h"
#include "cli/token_file.h"
#include "methods/values.h"

namespace fastkv::cli {

namespace {

constexpr const char* footer =
    R"(A row is a prompt of -p tokens and -n tokens decoded after it, by one method. All rows run once, then all again, and so
on: what slows the machine down for a while hits all methods. Before that the shortest row of each method runs uncounted.
  prefill      from the first token to the logits after the last, read in one piece, layer by layer
  decode       the -n steps after it, each with its logits; no sampling
  end-to-end   both together; its tokens per second are the decoded ones over this time, as in the reference
  cache        bytes allocated for it in the end
  peak memory  of the process during the row, weights included
-d N: N tokens are read, uncounted, as a prompt of their own, before the row begins. With -p 0 only decoding is measured,
at that depth; else the -p tokens are read as a later turn, over what the cache kept of the N.
Numbers are lists with ranges, as in llama-bench: 1000,8000 or 1000-8000+1000 or 512-8192*2; a flag may come several times.

Examples:
  fastkv bench -m model.gguf -p 1000,8000 -n 32
  fastkv bench -m model.gguf -p 4000 --methods fullkv,fastkv:tsp_layer=14,fastkv:tsp_layer=20 --retain-rate 0.05,0.1
  fastkv bench -m model.gguf -p 0 -d 1000-16000*2 -n 64 -t 1,2 -o jsonl)";

using Numbers = std::vector<int>;

// As in llama-bench a flag that comes again adds to its list.
void add_numbers(CLI::App& app, const std::string& names, const std::string& help, Numbers& numbers,
                 const std::string& kind, int least, int most = INT_MAX) {
    const std::string flag = names.substr(0, names.find(','));
    app.add_option_function<std::vector<std::string>>(
           names,
           [&numbers, flag, kind, least, most](const std::vector<std::string>& texts) {
               numbers.clear();
               for (const std::string& text : texts) {
                   const Numbers more = parse_number_list(flag, text, kind, least, most);
                   numbers.insert(numbers.end(), more.begin(), more.end());
               }
           },
           help)
        ->type_name("N,N,...")
        ->allow_extra_args(false);
}

void add_test_options(CLI::App& app, BenchOptions& options) {
    app.option_defaults()->group("Tests");
    const std::string tokens = "a number of tokens";
    add_numbers(app, "-p,--n-prompt", "tokens of the prompt; 0: none (default 1000)", options.n_prompt, tokens, 0);
    add_numbers(app, "-n,--n-gen", "tokens decoded after it (default 32)", options.n_gen, tokens, 0);
    add_numbers(app, "-d,--n-depth", "tokens that were read before (default 0)", options.n_depth, tokens, 0);
    add_numbers(app, "-t,--threads", "CPU threads; 0: one per core (default 0)", options.n_threads,
                "a number of threads", 0, max_threads);
    add_numbers(app, "-r,--repetitions", "how often each row runs (default 5)", options.repetitions, "a whole number",
                1);
    app.add_flag("--no-warmup", options.no_warmup, "count the first runs, too");
    app.add_option_function<std::string>(
           "-s,--seed",
           [&](const std::string& text) {
               options.seed = parse_number<uint64_t>("--seed", text, "a whole number from 0");
           },
           "of the random tokens (default 1)")
        ->type_name("N");
    app.add_option("--tokens", options.tokens_file, "read and decode these token ids instead, a JSON array")
        ->type_name("FILE");
    static const Choices<BenchOutput> outputs = {
        {"md", BenchOutput::md}, {"csv", BenchOutput::csv}, {"json", BenchOutput::json}, {"jsonl", BenchOutput::jsonl}};
    app.add_option_function<std::string>(
           "-o,--output", [&](const std::string& text) { options.output = choose(outputs, "-o", text); },
           "how rows are printed (default md)")
        ->type_name(join_names(outputs, "|"));
}

// As the flags give them, or as fastkv tune has found them where they give none; every parameter filled in.
std::vector<bench::NamedMethod> methods_for(const MethodListOptions& options, const Model& model) {
    auto methods = named_methods(options);
    for (bench::NamedMethod& method : methods) {
        method.params = choose_method({method.params, options.no_tuned}, model);
        method.params = resolve(method.params, model.hparams());
    }
    return methods;
}

// Every depth with every prompt with every answer.
std::vector<bench::Test> list_tests(const BenchOptions& options) {
    std::vector<bench::Test> tests;
    for (const int depth : options.n_depth) {
        for (const int n_prompt : options.n_prompt) {
            for (const int n_gen : options.n_gen) {
                if (n_prompt + n_gen == 0) refuse("-p 0 -n 0 measures nothing");
                tests.push_back({n_prompt, n_gen, depth});
            }
        }
    }
    return tests;
}

// By threads, then by test, then by repetitions, then by method.
std::vector<bench::Row> list_rows(const BenchOptions& options, const std::vector<bench::NamedMethod>& methods,
                                  const Numbers& n_threads) {
    std::vector<bench::Row> rows;
    for (const int threads : n_threads) {
        for (const bench::Test& test : list_tests(options)) {
            for (const int repetitions : options.repetitions) {
                for (const auto& method : methods) {
                    rows.push_back({.method = method, .test = test, .n_threads = threads, .repetitions = repetitions});
                }
            }
        }
    }
    return rows;
}

std::vector<Token> test_tokens(const BenchOptions& options, const Model& model, const std::vector<bench::Row>& rows) {
    size_t count = 0;
    for (const bench::Row& row : rows) count = std::max(count, size_t(row.test.n_tokens()));
    check_length(options.model, model, count, "-p, -n and -d together take up to");
    const int n_vocab = model.hparams().n_vocab;
    if (!options.tokens_file.empty()) {
        auto tokens = checked_tokens(read_token_ids(options.tokens_file), options.tokens_file, n_vocab);
        if (tokens.size() < count) {
            fail(format("%s holds %zu token ids, the longest row takes %zu", options.tokens_file.c_str(), tokens.size(),
                        count));
        }
        return tokens;
    }
    std::vector<Token> tokens(count);
    std::mt19937_64 random(options.seed);  // the same numbers everywhere, which a distribution's are not
    for (Token& token : tokens) token = Token(random() % uint64_t(n_vocab));
    return tokens;
}

std::string progress_text(const bench::ComparisonProgress& progress) {
    std::string text = progress.repetition < 0
                           ? "warming up"
                           : format("repetition %d of %d", progress.repetition + 1, progress.row->repetitions);
    text += ": " + progress.row->method.name + " " + test_text(progress.row->test);
    if (progress.seconds_left) text += ", " + seconds_text(std::max(1.0, *progress.seconds_left)) + " left";
    return text;
}

struct Plan {
    bench::ComparisonParams params;
    std::vector<bench::Row> rows;
    BenchFacts facts;
};

// The model is read here for what it says of itself; a comparison loads it with each number of threads.
Plan make_plan(const BenchOptions& options) {
    const Model model = Model::load(options.model.path, options.model.params);
    const int n_default = model.params().n_threads;
    Numbers n_threads = options.n_threads;
    for (int& n : n_threads) {
        if (n == 0) n = n_default;
    }
    Plan plan;
    plan.rows = list_rows(options, methods_for(options.methods, model), n_threads);
    for (bench::Row& row : plan.rows) {
        const CacheTypes given{options.model.cache_type_k, options.model.cache_type_v};
        const CacheTypes types = resolve_cache_types(given, row.method.params, model);
        row.type_k = cache_type_name(types.k);
        row.type_v = cache_type_name(types.v);
    }
    plan.params.model_path = options.model.path;
    plan.params.model = options.model.params;
    plan.params.session.n_ctx = context_size(options.model, model);
    plan.params.session.cache_type_k = options.model.cache_type_k;
    plan.params.session.cache_type_v = options.model.cache_type_v;
    plan.params.tokens = test_tokens(options, model, plan.rows);
    plan.params.warmup = !options.no_warmup;
    plan.facts = {options.model.path, model.hash(), model.hparams(), model.params(), bench::cpu_name()};
    return plan;
}

}  // namespace

void add_bench_command(CLI::App& app, BenchOptions& options) {
    CLI::App* command = app.add_subcommand("bench", "How fast methods read and decode, and what memory they take.");
    command->footer(footer);
    add_test_options(*command, options);
    add_model_options_but_threads(*command, options.model);
    add_method_list_options(*command, options.methods);
}

int bench_command(const BenchOptions& options) {
    Plan plan = make_plan(options);
    catch_interrupts();
    StatusLine line;
    const bool finished = run_comparison(plan.params, plan.rows, [&](const bench::ComparisonProgress& progress) {
        if (line.due()) line.show(progress_text(progress));
        return !interrupted();
    });
    release_interrupts();
    line.clear();

    print_rows(plan.rows, plan.facts, options.output);
    bool failed = false;
    for (const bench::Row& row : plan.rows) {
        if (row.error.empty()) continue;
        failed = true;
        std::fprintf(stderr, "fastkv: error: %s %s: %s\n", row.method.name.c_str(), test_text(row.test).c_str(),
                     row.error.c_str());
    }
    if (!finished) {
        std::fputs("fastkv: interrupted; rows hold what had been measured\n", stderr);
        return 130;
    }
    return failed ? 1 : 0;
}

}  // namespace fastkv::cli
