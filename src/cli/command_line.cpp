#include "cli/command_line.h"

#include <algorithm>

#include "cli/bench.h"
#include "cli/chat.h"
#include "cli/eval.h"
#include "cli/help.h"
#include "cli/inspect.h"
#include "cli/report.h"
#include "cli/run.h"
#include "cli/serve.h"
#include "cli/tune.h"

namespace fastkv::cli {

struct CommandLine::Options {
    RunOptions run;
    ChatOptions chat;
    InspectOptions inspect;
    TuneOptions tune;
    EvalOptions eval;
    BenchOptions bench;
    ReportOptions report;
    ServeOptions serve;
};

CommandLine::CommandLine(const std::string& typed)
    : app_("Answers questions about long documents from GGUF models, with a compressed key/value cache.", "fastkv"),
      options_(std::make_unique<Options>()) {
    app_.formatter(std::make_shared<HelpFormatter>());
    app_.footer(
        "'fastkv COMMAND --help' explains a command.\n"
        "Exit codes: 0 done, 1 failure, 2 misuse, 130 interrupted.");
    app_.require_subcommand(0, 1);
    app_.set_help_flag("-h,--help", "print this help");
    app_.set_version_flag(
        "--version", [] { return std::string("fastkv ") + version() + "\n" + build_info(); },
        "print the version, and the libraries and kernels in use");
    add_run_command(app_, options_->run);
    add_chat_command(app_, options_->chat);
    add_inspect_command(app_, options_->inspect);
    add_tune_command(app_, options_->tune);
    options_->eval.command = typed;
    add_eval_command(app_, options_->eval);
    add_bench_command(app_, options_->bench);
    add_report_command(app_, options_->report);
    add_serve_command(app_, options_->serve);
}

CommandLine::~CommandLine() = default;

void CommandLine::parse(std::vector<std::string> arguments) {
    std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the back
    app_.parse(std::move(arguments));
}

int CommandLine::run() {
    if (app_.get_subcommands().empty()) refuse("no command given (try 'fastkv --help')");
    if (app_.got_subcommand("chat")) return chat(options_->chat);
    if (app_.got_subcommand("tune")) return tune_command(options_->tune);
    if (app_.got_subcommand("eval")) return options_->eval.chosen();
    if (app_.got_subcommand("serve")) return serve(options_->serve);
    if (app_.got_subcommand("bench")) return bench_command(options_->bench);
    if (app_.got_subcommand("report")) return report_command(options_->report);
    return app_.got_subcommand("inspect") ? inspect(options_->inspect) : cli::run(options_->run);
}

}  // namespace fastkv::cli
