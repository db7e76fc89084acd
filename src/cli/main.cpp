// fastkv: commands in, exit codes out. 0: done, 1: failure, 2: misuse, 130: interrupted.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>
#include <string>

#include "cli/command_line.h"
#include "cli/help.h"
#include "cli/interrupt.h"
#include "cli/options.h"
#include "fastkv/error.h"

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
    CommandLine line(command_line(argc, argv));
    try {
        line.parse(long_names(argc, argv));
    } catch (const CLI::ParseError& error) {
        return report_parse_error(line.app(), error);
    }
    return line.run();
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
