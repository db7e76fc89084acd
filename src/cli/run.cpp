// Check everything that can be checked, read the prompt, stream the answer, report.
#include "cli/run.h"

#include <algorithm>
#include <chrono>
#include <climits>
#include <cstdio>

#include "cli/answer.h"
#include "cli/interrupt.h"
#include "cli/method_choice.h"
#include "cli/progress.h"
#include "cli/session_setup.h"
#include "cli/text.h"
#include "cli/trace.h"
#include "cli/whole_file.h"

namespace fastkv::cli {

namespace {

class Stopwatch {
  public:
    double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

  private:
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

struct Outcome {
    Answer answer;
    Stop stop = Stop::length;
    double first_token_seconds = 0;  // from the start of the prefill
};

void prefill(Session& session, const Prompt& prompt) {
    ProgressBar bar;
    session.prefill(prompt.tokens, show_and_watch(bar));
}

std::string cached_text(const Session& session) {
    int least = INT_MAX, most = 0;
    for (const LayerReport& layer : session.layers()) {
        least = std::min(least, layer.cached);
        most = std::max(most, layer.cached);
    }
    return least == most ? count_text(most) : count_text(least) + " to " + count_text(most);
}

// One line, for a person at the terminal.
void print_summary(const Session& session, const Outcome& outcome) {
    const PhaseStats& read = session.prefill_stats();
    const PhaseStats& said = session.decode_stats();
    std::fprintf(stderr, "\n[%s: %s tokens read in %s (%.0f/s), %zu said (%.1f/s), cache %s]\n",
                 session.method().method.c_str(), count_text(read.tokens).c_str(), seconds_text(read.seconds).c_str(),
                 read.tokens_per_second(), outcome.answer.tokens.size(), said.tokens_per_second(),
                 bytes_text(session.memory().kv_cache_bytes).c_str());
}

// -v: everything that one would ask about a run.
void print_details(const Model& model, const Session& session, const Outcome& outcome) {
    const HyperParams& hp = model.hparams();
    const PhaseStats& read = session.prefill_stats();
    const PhaseStats& said = session.decode_stats();
    const MemoryStats memory = session.memory();
    const auto line = [](const char* name, const std::string& text) {
        std::fprintf(stderr, "%-12s %s\n", name, text.c_str());
    };
    std::fputc('\n', stderr);
    line("model", format("%s %s, %s parameters, %s, %s", hp.arch.c_str(), hp.name.c_str(),
                         count_text(hp.n_params).c_str(), hp.file_type.c_str(), bytes_text(hp.weights_bytes).c_str()));
    line("compute", format("%s, %d threads, %d layers on the GPU", compute_name(model.params().compute).c_str(),
                           model.params().n_threads, model.params().n_gpu_layers));
    line("method", method_text(session.method()));
    line("first token", "after " + seconds_text(outcome.first_token_seconds));
    const double share = estimate(model, session.method(), session.n_prompt()).prefill_share;
    line("prefill",
         format("%s tokens in %s, %.1f tokens/s, %.1f %% of the work of fullkv", count_text(read.tokens).c_str(),
                seconds_text(read.seconds).c_str(), read.tokens_per_second(), 100.0 * share));
    line("decode",
         format("%s tokens in %s, %.1f tokens/s; stopped: %s", count_text(said.tokens).c_str(),
                seconds_text(said.seconds).c_str(), said.tokens_per_second(), stop_text(outcome.stop).c_str()));
    line("cache", format("%s of %s tokens per layer and head, %s", cached_text(session).c_str(),
                         count_text(session.n_prompt()).c_str(), bytes_text(memory.kv_cache_bytes).c_str()));
    line("memory", format("%s at the peak, weights included", bytes_text(memory.peak_rss_bytes).c_str()));
}

constexpr const char* examples = R"(Examples:
  fastkv run -m model.gguf -f report.txt -q "When was the bridge built?"
  pdftotext paper.pdf - | fastkv run -m model.gguf -q "What is the main result?" --retain-rate 0.2 -v)";

}  // namespace

void add_run_command(CLI::App& app, RunOptions& options) {
    CLI::App* command = app.add_subcommand("run", "Answer a question about a long document.");
    command->footer(examples);

    command->option_defaults()->group("Prompt (the document, then the question, in one chat message)");
    command->add_option("-f,--file", options.prompt.file, "the document, a UTF-8 text file; - is standard input")
        ->type_name("FILE");
    command
        ->add_option_function<std::string>(
            "-p,--prompt", [&](const std::string& text) { options.prompt.text = text, options.prompt.has_text = true; },
            "the document itself; without -f and -p it is read from standard input")
        ->type_name("TEXT");
    command->add_option("-q,--question", options.prompt.question, "what to ask about it")->type_name("TEXT");
    command
        ->add_option("--tokens", options.prompt.tokens_file,
                     "the prompt as token ids: a JSON array, or {\"prompt_tokens\": [...]}")
        ->type_name("FILE");
    command->add_flag("--raw", options.prompt.raw, "no chat template: the model goes on from the text as it is");

    command->option_defaults()->group("Answer");
    command
        ->add_option_function<std::string>(
            "-n,--predict,--n-predict", [&](const std::string& text) { options.n_predict = parse_n_predict(text); },
            "at most N tokens (default 512; -1: until it ends or the context is full)")
        ->type_name("N");
    command->add_flag("--no-display-prompt", options.hide_prompt,
                      "with --raw -p: print the continuation without the text before it");
    command->add_flag("-v,--verbose", options.verbose, "print times, memory and what was kept, to stderr");
    command->add_option("--trace", options.trace, "write what was kept, propagated and said, as JSON")
        ->type_name("FILE");

    add_model_options(*command, options.model);
    add_method_options(*command, options.method);
    add_sampling_options(*command, options.sampler);
}

int run(const RunOptions& options) {
    std::optional<WholeFile> trace;
    if (!options.trace.empty()) trace.emplace(options.trace, "--trace");
    const PromptInput input(options.prompt);
    const Model model = Model::load(options.model.path, options.model.params);
    Session session = open_session(options.model, choose_method(options.method, model), options.n_predict, model);
    Sampler sampler(model, options.sampler);
    const Prompt prompt = input.tokenize(model);
    check_length(options.model, model, prompt.tokens.size());

    catch_interrupts();
    Outcome outcome;
    const Stopwatch watch;
    prefill(session, prompt);
    outcome.answer.first_logits.assign(session.logits().begin(), session.logits().end());

    AnswerStream out;
    // As in llama.cpp a text is shown before its continuation; documents are not, they are what nobody wants to read.
    if (options.prompt.raw && options.prompt.has_text && !options.hide_prompt) out.write(prompt.text);
    outcome.stop = stream_answer(model, session, sampler, {options.n_predict, context_size(options.model, model)}, out,
                                 outcome.answer, [&] { outcome.first_token_seconds = watch.seconds(); });

    if (trace) trace->write(trace_json(model, session, options.sampler, outcome.answer));
    if (options.verbose) {
        print_details(model, session, outcome);
    } else if (stderr_is_terminal()) {
        print_summary(session, outcome);
    }
    return outcome.stop == Stop::interrupted ? 130 : 0;
}

}  // namespace fastkv::cli
