#include "manual/completion.h"

namespace fastkv::manual {

namespace {

std::string quoted(const std::string& plain) { return "'" + replaced(replaced(plain, "\\", "\\\\"), "'", "\\'") + "'"; }

/// That this command, and none below it, has been typed.
std::string condition_of(const Command& command) {
    std::string condition;
    for (size_t i = 1; i < command.name.size(); ++i) {
        condition += (i == 1 ? "" : "; and ") + ("__fish_seen_subcommand_from " + command.name[i]);
    }
    std::vector<std::string> below;
    for (const Command& next : command.subcommands) below.push_back(next.name.back());
    if (below.empty()) return condition;
    return condition + (condition.empty() ? "not " : "; and not ") + "__fish_seen_subcommand_from " + join(below, " ");
}

/// -r: a value follows; -x: and it is no file; -F: it is one.
std::string value_of(const Flag& flag) {
    const std::string words = quoted(join(flag.words, " "));
    switch (flag.kind) {
        case ValueKind::none: return "";
        case ValueKind::file: return " -r -F";
        case ValueKind::folder: return " -x -a '(__fish_complete_directories)'";
        case ValueKind::free: return flag.words.empty() ? " -x" : " -x -a " + words;
        case ValueKind::choice: return " -x -a " + words;
        case ValueKind::choices: return " -x -a '(__fish_append , " + join(flag.words, " ") + ")'";
    }
    return "";
}

/// -s f, -l file, or -o ngl: fish's names for the three kinds of flags.
std::string names_of(const Flag& flag) {
    std::string text;
    for (const std::string& name : flag.names) {
        if (name.starts_with("--")) {
            text += " -l " + name.substr(2);
        } else {
            text += (name.size() == 2 ? " -s " : " -o ") + name.substr(1);
        }
    }
    return text;
}

}  // namespace

std::string fish_completion(const Command& command) {
    std::string text = "# fish completion for fastkv, made from its flags.\ncomplete -c fastkv -f\n";
    for (const Command* at : all_commands(command)) {
        const std::string begin = "complete -c fastkv -n " + quoted(condition_of(*at));
        for (const Command& below : at->subcommands) {
            text += begin + " -a " + below.name.back() + " -d " + quoted(below.summary) + "\n";
        }
        for (const Flag& argument : at->arguments) text += begin + value_of(argument) + "\n";
        for (const Flag& flag : at->flags()) {
            text += begin + names_of(flag) + value_of(flag) + " -d " + quoted(first_line(flag.help)) + "\n";
        }
    }
    return text;
}

}  // namespace fastkv::manual
