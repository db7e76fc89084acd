// Runs a program as a shell would, and keeps what it says.
#pragma once

#include <fcntl.h>
#include <pty.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/tiny_model.h"

namespace fastkv::test {

struct ProcessResult {
    int code = -1;  ///< exit code, or 128 + the signal that ended it
    std::string out;
    std::string err;
};

struct ProcessOptions {
    std::string input;          ///< standard input
    bool close_output = false;  ///< start without a standard output
    std::string output_path;    ///< instead of a file whose content is returned
    /// Called over and over while the program runs; returns true when it has done what it wanted.
    std::function<bool(pid_t pid, const std::string& out)> watch;
};

inline int exit_code_of(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

/// Waits, calling `step` until it returns true; a program that outlives the limit is killed.
inline int wait_for(pid_t pid, const std::function<bool()>& step) {
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(120);
    bool done = !step;
    int status = 0;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (!done) done = step();
        if (std::chrono::steady_clock::now() > limit) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            return exit_code_of(status);
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return exit_code_of(status);
}

inline std::vector<char*> argv_of(const std::vector<std::string>& arguments) {
    std::vector<char*> argv;
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    return argv;
}

/// `arguments[0]` is the program.
inline ProcessResult run_process(const std::vector<std::string>& arguments, const ProcessOptions& options = {}) {
    const std::string in = temporary_path(".in"), err = temporary_path(".err");
    const std::string out = options.output_path.empty() ? temporary_path(".out") : options.output_path;
    write_file(in, options.input);

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, in.c_str(), O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 2, err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (options.close_output) {
        posix_spawn_file_actions_addclose(&actions, 1);
        write_file(out, "");
    } else {
        posix_spawn_file_actions_addopen(&actions, 1, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    }
    pid_t pid = 0;
    const int error = posix_spawn(&pid, arguments[0].c_str(), &actions, nullptr, argv_of(arguments).data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error != 0) throw std::runtime_error(arguments[0] + ": " + std::strerror(error));

    ProcessResult result;
    std::function<bool()> step;
    if (options.watch) step = [&] { return options.watch(pid, read_file(out)); };
    result.code = wait_for(pid, step);
    if (options.output_path.empty()) result.out = read_file(out);
    result.err = read_file(err);
    return result;
}

/// Runs a program whose stderr is a terminal of 100 columns; its text is `err`. `watch` sees it grow. With `typed` its
/// stdin is that terminal too, and whenever a prompt "> " waits the next of these texts is typed.
inline ProcessResult run_on_terminal(const std::vector<std::string>& arguments,
                                     const std::function<bool(pid_t, const std::string& err)>& watch = {},
                                     std::vector<std::string> typed = {}) {
    const std::string out = temporary_path(".out");
    const std::vector<char*> argv = argv_of(arguments);
    winsize size{};
    size.ws_col = 100;
    size.ws_row = 30;
    int terminal = -1;
    const pid_t pid = forkpty(&terminal, nullptr, nullptr, &size);
    if (pid == 0) {
        setenv("TERM", "xterm", 1);
        const int in_fd = typed.empty() ? open("/dev/null", O_RDONLY) : dup(0);
        const int out_fd = open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (in_fd < 0 || out_fd < 0 || dup2(in_fd, 0) < 0 || dup2(out_fd, 1) < 0) _exit(127);
        execv(argv[0], argv.data());
        _exit(127);
    }
    if (pid < 0) throw std::runtime_error(std::string("forkpty: ") + std::strerror(errno));
    fcntl(terminal, F_SETFL, O_NONBLOCK);

    ProcessResult result;
    bool watched = !watch;
    const auto drain = [&] {
        char block[4096];
        for (ssize_t n; (n = read(terminal, block, sizeof block)) > 0;) result.err.append(block, size_t(n));
    };
    result.code = wait_for(pid, [&] {
        drain();
        if (!watched) watched = watch(pid, result.err);
        if (!typed.empty() && result.err.ends_with("> ")) {
            result.err += typed.front();  // before the terminal's echo: the prompt waits no more
            if (write(terminal, typed.front().data(), typed.front().size()) < 0) return true;
            typed.erase(typed.begin());
        }
        return false;  // keep the terminal drained
    });
    drain();
    close(terminal);
    result.out = read_file(out);
    return result;
}

}  // namespace fastkv::test
