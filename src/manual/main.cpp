// fastkv-manual DIR DATE: writes the manual page, of that date, and the completions into DIR. Runs while fastkv is
// built.
#include <cstdio>
#include <exception>
#include <filesystem>

#include "cli/command_line.h"
#include "cli/whole_file.h"
#include "fastkv/fastkv.h"
#include "manual/completion.h"
#include "manual/man_page.h"

int main(int argc, char** argv) {
    using namespace fastkv;
    if (argc != 3) {
        std::fputs("usage: fastkv-manual DIR YYYY-MM-DD\n", stderr);
        return 2;
    }
    try {
        const cli::CommandLine line;
        const manual::Command command = manual::describe(line.app());
        const std::filesystem::path folder = argv[1];
        const auto write = [&](const char* name, const std::string& content) {
            cli::WholeFile((folder / name).string(), "").write(content);
        };
        write("fastkv.1", manual::man_page(command, version(), argv[2]));
        write("fastkv.bash", manual::bash_completion(command));
        write("_fastkv", manual::zsh_completion(command));
        write("fastkv.fish", manual::fish_completion(command));
    } catch (const std::exception& error) {
        std::fprintf(stderr, "fastkv-manual: error: %s\n", error.what());
        return 1;
    }
    return 0;
}
