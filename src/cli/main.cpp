// fastkv: commands in, exit codes out. 0: done, 1: failure, 2: misuse, 130: interrupted.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "cli/command_line.h"
#include "cli/help.h"
#include "cli/interrupt.h"
#include "cli/options.h"
#include "cli/spinning.h"
#include "fastkv/error.h"
#include "text/words.h"

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

// The command at which parsing ended.
const CLI::App& last_command(const CLI::App& app) {
    const auto commands = app.get_subcommands();
    return commands.empty() ? app : last_command(*commands.front());
}

// "there is no 'evla'; there are run, chat, ..." or "name one of needle, ..." where a command's name is wrong or
// missing; else empty.
std::string unknown_command(const CLI::App& app) {
    std::vector<std::string> names;
    for (const CLI::App* command : app.get_subcommands({})) names.push_back(command->get_name());
    if (names.empty()) return "";
    const std::string known = text::join(names, ", ");
    const std::vector<std::string> words = app.remaining();
    if (words.empty()) return "name one of " + known;
    return words[0][0] == '-' ? "" : "there is no '" + words[0] + "'; there are " + known;
}

// What CLI11 refuses itself: unknown flags, missing values, no command. --help comes here as well.
int report_parse_error(const CLI::App& app, const CLI::ParseError& error) {
    if (error.get_exit_code() == int(CLI::ExitCodes::Success)) return app.exit(error);
    const CLI::App& command = last_command(app);
    const std::string unknown = unknown_command(command);
    return report(
        (unknown.empty() ? std::string(error.what()) : unknown) + " (try '" + full_name(&command) + " --help')", 2);
}

int main_command(int argc, char** argv) {
    CommandLine line(command_line(argc, argv));
    try {
        line.parse(long_names(argc, argv));
    } catch (const CLI::ParseError& error) {
        return report_parse_error(line.app(), error);
    }
    limit_spinning(argv);  // help and mistakes were answered without
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
