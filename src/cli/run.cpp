// Check everything that can be checked, read the prompt, stream the answer, report.
#include "cli/run.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdio>
#include <cstring>

#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/text.h"
#include "cli/trace.h"

namespace fastkv::cli {

namespace {

// Entries set aside in the cache where the answer has no limit of its own; it grows past them.
constexpr int open_ended_reserve = 512;

class Stopwatch {
  public:
    double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

  private:
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// Standard output, flushed piece by piece so that an answer can be read while it grows.
class AnswerStream {
  public:
    /// False once the reader has gone (a closed pipe), which is no error. Throws where writing fails otherwise.
    bool write(const std::string& text) {
        if (reader_gone_ || text.empty()) return !reader_gone_;
        const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
        if (written && std::fflush(stdout) == 0) return true;
        if (errno != EPIPE) fail(std::string("cannot write the answer: ") + std::strerror(errno));
        reader_gone_ = true;
        return false;
    }

  private:
    bool reader_gone_ = false;
};

enum class Stop { end_of_answer, length, context_full, interrupted, reader_gone };

struct Outcome {
    Answer answer;
    Stop stop = Stop::length;
    double first_token_seconds = 0;  // from the start of the prefill
};

int context_size(const RunOptions& options, const Model& model) {
    return options.model.n_ctx > 0 ? options.model.n_ctx : model.hparams().n_ctx_train;
}

void check_length(const RunOptions& options, const Model& model, size_t n_prompt) {
    const int n_ctx = context_size(options, model);
    const int n_ctx_train = model.hparams().n_ctx_train;
    if (n_prompt > size_t(n_ctx)) {
        const char* way_out =
            n_ctx < n_ctx_train ? "raise -c" : "shorten it (-c goes past what the model was trained on)";
        fail(format("the prompt has %zu tokens, the context holds %d: %s", n_prompt, n_ctx, way_out));
    }
    if (n_ctx > n_ctx_train && n_prompt > size_t(n_ctx_train)) {
        std::fprintf(stderr, "fastkv: note: the prompt has %zu tokens, the model was trained on %d\n", n_prompt,
                     n_ctx_train);
    }
}

Session make_session(const RunOptions& options, const Model& model) {
    SessionParams params;
    params.n_predict = options.n_predict < 0 ? open_ended_reserve : options.n_predict;
    params.n_ctx = context_size(options, model);
    params.cache_type_k = options.model.cache_type_k;
    params.cache_type_v = options.model.cache_type_v;
    return Session(model, options.method, params);
}

void prefill(Session& session, const Prompt& prompt) {
    ProgressBar bar;
    session.prefill(prompt.tokens, [&](const PrefillProgress& progress) {
        bar.show(progress);
        return !interrupted();
    });
}

// Samples until something ends the answer. The last token is not fed back: nothing would read its logits.
Stop decode(const RunOptions& options, const Model& model, Session& session, Sampler& sampler, AnswerStream& out,
            Outcome& outcome, const Stopwatch& watch) {
    const int limit = options.n_predict < 0 ? INT_MAX : options.n_predict;
    const int n_ctx = context_size(options, model);
    Answer& answer = outcome.answer;
    Utf8Stream utf8;
    const auto show = [&](const std::string& text) {
        answer.text += text;
        return out.write(text);
    };
    const auto generate = [&] {
        for (int n = 0; n < limit; ++n) {
            if (interrupted()) return Stop::interrupted;
            if (n > 0) {
                if (session.n_past() >= n_ctx) return Stop::context_full;
                session.decode(answer.tokens.back());
            }
            answer.margins.push_back(top_margin(session.logits()));
            answer.tokens.push_back(sampler.sample(session.logits()));
            if (n == 0) outcome.first_token_seconds = watch.seconds();
            if (model.is_end_of_generation(answer.tokens.back())) return Stop::end_of_answer;
            if (!show(utf8.push(model.piece(answer.tokens.back())))) return Stop::reader_gone;
        }
        return Stop::length;
    };
    const Stop stop = generate();
    show(utf8.finish());
    if (!answer.tokens.empty()) out.write("\n");
    return stop;
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

std::string stop_text(Stop stop) {
    switch (stop) {
        case Stop::end_of_answer: return "the answer ended";
        case Stop::length: return "-n tokens";
        case Stop::context_full: return "the context is full";
        case Stop::interrupted: return "interrupted";
        case Stop::reader_gone: return "nobody reads the answer";
    }
    return "";
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

int parse_n_predict(const std::string& text) {
    const int n = whole_number("-n", text, "a number of tokens");
    if (n < -1) refuse("-n " + text + " is below -1, which means no limit");
    return n;
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
    std::optional<TraceFile> trace;
    if (!options.trace.empty()) trace.emplace(options.trace);
    const PromptInput input(options.prompt);
    const Model model = Model::load(options.model.path, options.model.params);
    Session session = make_session(options, model);
    Sampler sampler(model, options.sampler);
    const Prompt prompt = input.tokenize(model);
    check_length(options, model, prompt.tokens.size());

    catch_interrupts();
    Outcome outcome;
    const Stopwatch watch;
    prefill(session, prompt);
    outcome.answer.first_logits.assign(session.logits().begin(), session.logits().end());

    AnswerStream out;
    // As in llama.cpp a text is shown before its continuation; documents are not, they are what nobody wants to read.
    if (options.prompt.raw && options.prompt.has_text && !options.hide_prompt) out.write(prompt.text);
    outcome.stop = decode(options, model, session, sampler, out, outcome, watch);

    if (trace) trace->write(trace_json(model, session, options.sampler, outcome.answer));
    if (options.verbose) {
        print_details(model, session, outcome);
    } else if (stderr_is_terminal()) {
        print_summary(session, outcome);
    }
    return outcome.stop == Stop::interrupted ? 130 : 0;
}

}  // namespace fastkv::cli
