// How --help looks.
#pragma once

#include <CLI/CLI.hpp>

#include <string>

namespace fastkv::cli {

/// A usage line per command, and names before types: "--retain-rate R".
class HelpFormatter : public CLI::Formatter {
  public:
    HelpFormatter() { column_width(34); }
    std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override;
    std::string make_usage(const CLI::App* app, std::string name) const override;
    std::string make_option_name(const CLI::Option* option, bool is_positional) const override;
    std::string make_option_opts(const CLI::Option* option) const override;
};

/// "fastkv eval needle"
std::string full_name(const CLI::App* app);

}  // namespace fastkv::cli
