// The whole command: all its parts with their flags, and which of them was chosen.
#pragma once

#include <CLI/CLI.hpp>

#include <memory>
#include <string>
#include <vector>

namespace fastkv::cli {

class CommandLine {
  public:
    /// `typed` is the command as it was typed, for results that say how they were made.
    explicit CommandLine(const std::string& typed = "");
    ~CommandLine();
    CommandLine(const CommandLine&) = delete;
    CommandLine& operator=(const CommandLine&) = delete;

    /// The flags, for who describes them.
    const CLI::App& app() const { return app_; }

    /// `arguments` are those behind the command's name, as long_names() gives them. Throws CLI::ParseError and Error.
    void parse(std::vector<std::string> arguments);

    /// Runs what parse() has found. Returns the exit code. Throws Error.
    int run();

  private:
    struct Options;

    CLI::App app_;
    std::unique_ptr<Options> options_;  // which the flags write to
};

}  // namespace fastkv::cli
