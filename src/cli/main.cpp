// fastkv: commands in, exit codes out. 0: done, 1: failure, 2: misuse, 130: interrupted.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <memory>
#include <new>
#include <string>

#include "cli/bench.h"
#include "cli/chat.h"
#include "cli/eval.h"
#include "cli/help.h"
#include "cli/inspect.h"
#include "cli/interrupt.h"
#include "cli/report.h"
#include "cli/run.h"
#include "cli/serve.h"
#include "cli/text.h"
#include "cli/tune.h"

namespace fastkv::cli {

namespace {

int exit_code(ErrorKind kind) {
    switch (kind) {
        case ErrorKind::usage: return 2;
        case ErrorKind::failure: return 1;
        case ErrorKind::cancelled: return 130;
    }
    return 1;
}

int report(const std::string& message, int code) {
    std::string line = message;
    std::replace(line.begin(), line.end(), '\n', ' ');
    std::fprintf(stderr, "fastkv: error: %s\n", line.c_str());
    return code;
}

// What CLI11 refuses itself: unknown flags, missing values, no command. --help comes here as well.
int report_parse_error(const CLI::App& app, const CLI::ParseError& error) {
    if (error.get_exit_code() == int(CLI::ExitCodes::Success)) return app.exit(error);
    std::string help = "fastkv --help";
    if (const auto commands = app.get_subcommands(); !commands.empty()) {
        help = full_name(commands.front()->get_subcommands().empty() ? commands.front()
                                                                     : commands.front()->get_subcommands().front()) +
               " --help";
    }
    return report(std::string(error.what()) + " (try '" + help + "')", 2);
}

int main_command(int argc, char** argv) {
    CLI::App app("Answers questions about long documents from GGUF models, with a compressed key/value cache.",
                 "fastkv");
    app.formatter(std::make_shared<HelpFormatter>());
    app.footer(
        "'fastkv COMMAND --help' explains a command.\n"
        "Exit codes: 0 done, 1 failure, 2 misuse, 130 interrupted.");
    app.require_subcommand(0, 1);
    app.set_help_flag("-h,--help", "print this help");
    app.set_version_flag(
        "--version", [] { return std::string("fastkv ") + version() + "\n" + build_info(); },
        "print the version, and the libraries and kernels in use");

    RunOptions run_options;
    ChatOptions chat_options;
    InspectOptions inspect_options;
    add_run_command(app, run_options);
    add_chat_command(app, chat_options);
    add_inspect_command(app, inspect_options);
    TuneOptions tune_options;
    BenchOptions bench_options;
    add_tune_command(app, tune_options);
    EvalOptions eval_options;
    eval_options.command = command_line(argc, argv);
    add_eval_command(app, eval_options);
    add_bench_command(app, bench_options);
    ReportOptions report_options;
    add_report_command(app, report_options);
    ServeOptions serve_options;
    add_serve_command(app, serve_options);

    try {
        // CLI11 takes the arguments from the back of the vector.
        std::vector<std::string> arguments = long_names(argc, argv);
        std::reverse(arguments.begin(), arguments.end());
        app.parse(std::move(arguments));
    } catch (const CLI::ParseError& error) {
        return report_parse_error(app, error);
    }
    if (app.get_subcommands().empty()) return report("no command given (try 'fastkv --help')", 2);
    if (app.got_subcommand("chat")) return chat(chat_options);
    if (app.got_subcommand("tune")) return tune_command(tune_options);
    if (app.got_subcommand("eval")) return eval_options.chosen();
    if (app.got_subcommand("serve")) return serve(serve_options);
    if (app.got_subcommand("bench")) return bench_command(bench_options);
    if (app.got_subcommand("report")) return report_command(report_options);
    return app.got_subcommand("inspect") ? inspect(inspect_options) : run(run_options);
}

int guarded_main(int argc, char** argv) {
    try {
        return main_command(argc, argv);
    } catch (const Error& error) {
        if (error.kind() == ErrorKind::cancelled) {
            std::fputs("fastkv: interrupted\n", stderr);
            return 130;
        }
        return report(error.what(), exit_code(error.kind()));
    } catch (const std::bad_alloc&) {
        return report("not enough memory", 1);
    } catch (const std::exception& error) {
        return report(error.what(), 1);
    }
}

}  // namespace

}  // namespace fastkv::cli

int main(int argc, char** argv) {
    fastkv::cli::guard_standard_streams();
    return fastkv::cli::guarded_main(argc, argv);
}
