// The command as its manual and its shells see it: read from the flags, so that nothing is told twice.
#pragma once

#include <CLI/CLI.hpp>

#include <string>
#include <vector>

#include "text/words.h"

namespace fastkv::manual {

/// What a value may be, as far as a shell can help with it.
enum class ValueKind {
    none,     ///< a switch
    free,     ///< numbers and texts
    file,     ///< the name of a file
    folder,   ///< the name of a folder
    choice,   ///< one of some words
    choices,  ///< several of them, by commas
};

struct Flag {
    std::vector<std::string> names;    ///< "-f", "--file"; none for a value that stands alone
    std::string value;                 ///< "FILE", "max|avg"; "" for a switch
    std::string help;                  ///< lines
    ValueKind kind = ValueKind::none;  ///< of the value
    std::vector<std::string> words;    ///< of a choice; of a free value those that it may be besides
};

/// Flags under one heading.
struct FlagGroup {
    std::string heading;  ///< "Model"
    std::vector<Flag> flags;
};

struct Command {
    std::vector<std::string> name;  ///< "fastkv", "eval", "needle"
    std::string summary;            ///< one sentence
    std::string usage;              ///< lines without "Usage:"
    std::string notes;              ///< what --help says at its end; lines
    std::vector<Flag> arguments;    ///< values that stand alone
    std::vector<FlagGroup> groups;
    std::vector<Command> subcommands;

    /// "fastkv eval needle", with `separator` between.
    std::string full_name(const std::string& separator = " ") const;
    std::vector<Flag> flags() const;  ///< of all groups
};

/// The whole of `app`.
Command describe(const CLI::App& app);

/// A command, those below it, those below these.
std::vector<const Command*> all_commands(const Command& command);

/// The first line of a help text.
std::string first_line(const std::string& text);

using text::join;
using text::replaced;

}  // namespace fastkv::manual
