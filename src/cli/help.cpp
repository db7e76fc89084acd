#include "cli/help.h"

#include <utility>

#include "cli/options.h"

namespace fastkv::cli {

// CLI11 leaves two empty lines between groups; one is enough.
std::string HelpFormatter::make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const {
    std::string help = CLI::Formatter::make_help(app, std::move(name), mode);
    for (size_t at = 0; (at = help.find("\n\n\n", at)) != std::string::npos;) help.erase(at, 1);
    return help;
}

std::string HelpFormatter::make_usage(const CLI::App* app, std::string) const {
    const std::string command = app->get_parent() == nullptr ? "" : app->get_name();
    if (command == "run") {
        return "Usage: fastkv run -m MODEL [-f FILE | -p TEXT | < FILE] [-q QUESTION] [options]\n";
    }
    if (command == "chat") return "Usage: fastkv chat -m MODEL [-f FILE | -p TEXT] [-sys TEXT] [options]\n";
    if (command == "inspect") return "Usage: fastkv inspect -m MODEL [-p LENGTHS] [options]\n";
    if (command == "tune") {
        return "Usage: fastkv tune -m MODEL [-f FILE] [options]\n"
               "       fastkv tune -m MODEL --check [--method NAME ...] [-f FILE | --rows FILE] [options]\n";
    }
    if (command == "eval") return "Usage: fastkv eval NAME -m MODEL [options]\n";
    if (app->get_parent() != nullptr && app->get_parent()->get_name() == "eval") {
        return "Usage: " + full_name(app) + " -m MODEL [--methods LIST] [-o DIR] [options]\n";
    }
    if (command == "serve") return "Usage: fastkv serve -m MODEL [--host HOST] [--port N] [options]\n";
    if (command == "bench") {
        return "Usage: fastkv bench -m MODEL [-p LENGTHS] [-n LENGTHS] [-d LENGTHS] [--methods LIST] [options]\n";
    }
    if (command == "report") return "Usage: fastkv report DIR [-o FILE]\n";
    return "Usage: fastkv COMMAND [options]\n";
}

std::string full_name(const CLI::App* app) {
    return app->get_parent() == nullptr ? app->get_name() : full_name(app->get_parent()) + " " + app->get_name();
}

// CLI11 knows short names of one letter only, so longer ones such as -ngl are shown by hand; see long_names().
std::string HelpFormatter::make_option_name(const CLI::Option* option, bool is_positional) const {
    const std::string name = CLI::Formatter::make_option_name(option, is_positional);
    const std::string first = name.substr(0, name.find(','));
    const std::string shorter = short_name(first);
    return shorter.empty() ? name : shorter + "," + first;
}

std::string HelpFormatter::make_option_opts(const CLI::Option* option) const {
    const std::string type = option->get_type_name();
    return type.empty() ? "" : " " + type;
}

}  // namespace fastkv::cli
