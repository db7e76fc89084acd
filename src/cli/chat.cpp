// Read a question, let the session read the turn, stream the answer, and again.
#include "cli/chat.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <memory>

#include "cli/answer.h"
#include "cli/conversation.h"
#include "cli/input_text.h"
#include "cli/interrupt.h"
#include "cli/method_choice.h"
#include "cli/progress.h"
#include "cli/question_input.h"
#include "cli/session_setup.h"
#include "cli/text.h"

namespace fastkv::cli {

namespace {

constexpr const char* forgetful =
    "What is kept of the document is decided when the first question is read, by that question: a later one may find\n"
    "that what it needs was dropped. Keep more (--retain-rate 0.5), choose by no question (--score expected), keep "
    "all\n"
    "(--method fullkv), or ask it first (/clear).\n";

constexpr const char* commands =
    "A line is a question. One that ends with \\ goes on in the next line; \"\"\" begins a text of several lines that\n"
    "ends with \"\"\". Ctrl-C stops an answer; at the prompt, or twice, it leaves.\n"
    "  /clear      a new conversation on the same document, which is read again\n"
    "  /stats      the cache, the context, times\n"
    "  /save FILE  write questions and answers to a new file\n"
    "  /help       this\n"
    "  /exit       leave, as Ctrl-D does\n";

// Everything that is no answer goes here, so that standard output holds the conversation only.
void tell(const std::string& text) { std::fputs(text.c_str(), stderr); }

std::string read_document(const ChatOptions& options) {
    if (!options.file.empty() && options.has_text) refuse("-f and -p are both given: one document at a time");
    if (options.file == "-") refuse("-f -: standard input is for the questions; give the document as a file");
    if (options.has_text) return checked_text(options.text, "the text of -p");
    return options.file.empty() ? "" : read_text_file(options.file);
}

class Chat {
  public:
    Chat(const ChatOptions& options, const Model& model, const std::string& document)
        : options_(options),
          model_(model),
          session_(open_session(options.model, choose_method(options.method, model), options.n_predict, model)),
          sampler_(model, options.sampler),
          conversation_(model, checked_text(options.system, "the text of -sys"), document),
          limits_{options.n_predict, context_size(options.model, model)} {
        if (options.recompress) session_.check_recompress();
    }

    int run();

  private:
    enum class Next { go_on, leave, interrupted };

    Next respond(const Question& question);
    Next answer(const std::string& question);
    Next command(const std::string& text);
    void read(const Conversation::Turn& turn);
    void note(Stop stop) const;
    void save(const std::string& path) const;
    std::string stats() const;
    std::string cached_text() const;

    const ChatOptions& options_;
    const Model& model_;
    Session session_;
    Sampler sampler_;
    Conversation conversation_;
    AnswerLimits limits_;
    AnswerStream out_;
    QuestionInput input_;
};

int Chat::run() {
    if (input_.is_terminal()) {
        tell("fastkv chat with " + method_text(session_.method()) + "\n/help explains, Ctrl-D leaves.\n");
    }
    while (true) {
        try {
            const std::optional<Question> question = input_.next();
            if (!question) break;
            const Next next = respond(*question);
            if (next == Next::interrupted) return 130;
            if (next == Next::leave) break;
        } catch (const Error& error) {
            release_interrupts();
            if (!input_.is_terminal() || asked_to_end()) throw;
            tell(error.kind() == ErrorKind::cancelled
                     ? std::string("fastkv: stopped; the next question begins reading at the start\n")
                     : std::string("fastkv: error: ") + error.what() + "\n");
        }
    }
    if (input_.is_terminal()) tell("\n");
    return 0;
}

Chat::Next Chat::respond(const Question& question) {
    if (question.is_command) return command(question.text);
    if (!input_.is_terminal()) out_.write(quoted(question.text));
    return answer(question.text);
}

// A person's Ctrl-C stops the answer only; a script is stopped as a whole.
Chat::Next Chat::answer(const std::string& question) {
    const Conversation::Turn turn = conversation_.turn(question);
    catch_interrupts();
    read(turn);
    Answer answer;
    Stop stop;
    try {
        stop = stream_answer(model_, session_, sampler_, limits_, out_, answer);
    } catch (const Error&) {
        conversation_.forget_read();
        throw;
    }
    const bool ends = asked_to_end();
    release_interrupts();
    std::vector<Token> unread;  // the last token of an answer, unless it ends it: then the template gives it back
    if (!answer.tokens.empty() && stop != Stop::end_of_answer) unread = {answer.tokens.back()};
    conversation_.add(turn, answer.text, std::move(unread));
    if (!out_.write("\n") || stop == Stop::reader_gone) return Next::leave;
    note(stop);
    if (options_.verbose) tell(stats());
    return ends || (stop == Stop::interrupted && !input_.is_terminal()) ? Next::interrupted : Next::go_on;
}

// By a prefill, or as a later turn of what the session holds.
void Chat::read(const Conversation::Turn& turn) {
    if (turn.rewritten) {
        tell("fastkv: note: this model's chat template changes earlier turns; the whole conversation is read again\n");
    }
    ProgressBar bar;
    try {
        if (turn.from_start) {
            check_length(options_.model, model_, turn.tokens.size());
            session_.prefill(turn.tokens, show_and_watch(bar));
        } else {
            session_.extend(turn.tokens, options_.recompress, show_and_watch(bar));
        }
    } catch (const Error&) {
        if (session_.n_past() == 0) conversation_.forget_read();
        throw;
    }
}

// Why an answer is shorter than it might be, to whoever types.
void Chat::note(Stop stop) const {
    if (stop == Stop::context_full) {
        tell("fastkv: note: the context of " + count_text(limits_.n_ctx) +
             " tokens is full: begin a new conversation (/clear), or start again with a larger -c\n");
    } else if (stop == Stop::length && input_.is_terminal()) {
        tell("fastkv: note: the answer was cut after " + count_text(limits_.n_predict) + " tokens (-n)\n");
    }
}

Chat::Next Chat::command(const std::string& text) {
    const size_t space = text.find(' ');
    const std::string name = text.substr(0, space);
    const std::string argument = space == std::string::npos ? "" : text.substr(space + 1);
    if (name == "/exit" || name == "/quit") return Next::leave;
    if (name == "/help") {
        tell(std::string(commands) + forgetful);
    } else if (name == "/clear") {
        conversation_.clear();
        sampler_ = Sampler(model_, options_.sampler);
    } else if (name == "/stats") {
        tell(stats());
    } else if (name == "/save") {
        save(argument);
    } else {
        refuse(name + " is no command: /help lists them (a question that begins with / goes between \"\"\")");
    }
    return Next::go_on;
}

void Chat::save(const std::string& path) const {
    if (is_blank(path)) refuse("/save needs the name of a file");
    if (conversation_.empty()) refuse("/save " + path + ": nothing has been said yet");
    // "x": what is there stays
    std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "wbx"), std::fclose);
    const std::string text = conversation_.transcript();
    errno = file ? 0 : errno;
    const bool written = file && std::fwrite(text.data(), 1, text.size(), file.get()) == text.size();
    if (!written || std::fclose(file.release()) != 0) {
        fail("/save " + path + ": cannot write: " + std::strerror(errno));
    }
}

// Entries per layer and head, over all of them.
std::string Chat::cached_text() const {
    int least = INT_MAX, most = 0;
    for (int layer = 0; layer < model_.hparams().n_layer; ++layer) {
        for (int head = 0; head < session_.n_head_cached(layer); ++head) {
            const int n = int(session_.cached_positions(layer, head).size());
            least = std::min(least, n);
            most = std::max(most, n);
        }
    }
    return least == most ? count_text(most) : count_text(least) + " to " + count_text(most);
}

std::string Chat::stats() const {
    if (session_.n_past() == 0) return "nothing has been read yet\n";
    const PhaseStats& read = session_.prefill_stats();
    const PhaseStats& said = session_.decode_stats();
    return format("cache    %s entries per layer and head, %s\n", cached_text().c_str(),
                  bytes_text(session_.memory().kv_cache_bytes).c_str()) +
           format("context  %s of %s tokens\n", count_text(session_.n_past()).c_str(),
                  count_text(limits_.n_ctx).c_str()) +
           format("read     %s tokens in %s, %.1f tokens/s (the last turn)\n", count_text(read.tokens).c_str(),
                  seconds_text(read.seconds).c_str(), read.tokens_per_second()) +
           format("said     %s tokens in %s, %.1f tokens/s (all answers)\n", count_text(said.tokens).c_str(),
                  seconds_text(said.seconds).c_str(), said.tokens_per_second());
}

int parse_answer_length(const std::string& text) {
    const int n = parse_n_predict(text);
    if (n == 0) refuse("-n 0 leaves no room for an answer");
    return n;
}

constexpr const char* examples = R"(
Examples:
  fastkv chat -m model.gguf -f report.txt
  fastkv chat -m model.gguf -f report.txt --score expected --retain-rate 0.3 < questions.txt)";

}  // namespace

void add_chat_command(CLI::App& app, ChatOptions& options) {
    CLI::App* command = app.add_subcommand("chat", "Talk about a document, question after question.");
    command->footer(std::string(commands) + "\n" + forgetful + examples);

    command->option_defaults()->group("Conversation (questions come from standard input, one a line)");
    command
        ->add_option("-f,--file", options.file,
                     "the document, a UTF-8 text file; it stands before the first question, in its message")
        ->type_name("FILE");
    command
        ->add_option_function<std::string>(
            "-p,--prompt", [&](const std::string& text) { options.text = text, options.has_text = true; },
            "the document itself")
        ->type_name("TEXT");
    command->add_option("--system-prompt", options.system, "the system's message, before all others")
        ->type_name("TEXT");
    command->add_flag("--recompress", options.recompress,
                      "after each turn cut the cache to the budget of a prompt as long as the conversation");
    command
        ->add_option_function<std::string>(
            "-n,--predict,--n-predict", [&](const std::string& text) { options.n_predict = parse_answer_length(text); },
            "at most N tokens for each answer (default 512; -1: until it ends or the context is full)")
        ->type_name("N");
    command->add_flag("-v,--verbose", options.verbose, "print cache, context and times after each answer, to stderr");

    add_model_options(*command, options.model);
    add_method_options(*command, options.method);
    add_sampling_options(*command, options.sampler);
}

int chat(const ChatOptions& options) {
    const std::string document = read_document(options);
    const Model model = Model::load(options.model.path, options.model.params);
    return Chat(options, model, document).run();
}

}  // namespace fastkv::cli
