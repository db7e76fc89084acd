#include "manual/completion.h"

namespace fastkv::manual {

namespace {

/// Within single quotes, where a specification of _arguments ends at brackets and colons.
std::string escaped(const std::string& plain) {
    std::string text = plain;
    for (const char* special : {"\\", "[", "]", ":"}) text = replaced(text, special, std::string("\\") + special);
    return replaced(text, "'", "'\\''");
}

std::string action_of(const Flag& flag) {
    switch (flag.kind) {
        case ValueKind::none: return "";
        case ValueKind::file: return "_files";
        case ValueKind::folder: return "_files -/";
        case ValueKind::free:
            if (flag.words.empty()) return " ";
            [[fallthrough]];
        case ValueKind::choice: return "(" + join(flag.words, " ") + ")";
        case ValueKind::choices: return "_sequence compadd - " + join(flag.words, " ");
    }
    return "";
}

/// "'(-f --file)'{-f,--file}'[the document]:FILE:_files'"
std::string specification(const Flag& flag) {
    std::string text = "'[" + escaped(first_line(flag.help)) + "]";
    if (flag.kind != ValueKind::none) text += ":" + escaped(flag.value) + ":" + action_of(flag);
    text += "'";
    if (flag.names.size() == 1) return "'" + flag.names[0] + text.substr(1);
    return "'(" + join(flag.names, " ") + ")'{" + join(flag.names, ",") + "}" + text;
}

std::string function_of(const Command& command) {
    std::string text = "_" + command.full_name("_") + "() {\n";
    if (!command.subcommands.empty()) text += "    local curcontext=$curcontext state line\n";
    text += command.subcommands.empty() ? "    _arguments" : "    _arguments -C";
    for (const Flag& flag : command.flags()) text += " \\\n        " + specification(flag);
    for (const Flag& argument : command.arguments) {
        text += " \\\n        ':" + escaped(argument.value) + ":" + action_of(argument) + "'";
    }
    if (command.subcommands.empty()) return text + "\n}\n\n";
    text +=
        " \\\n        '1:command:->command' \\\n        '*::argument:->argument'\n    case $state in\n        "
        "command)\n";
    text += "            local -a commands=(\n";
    std::string cases;
    for (const Command& below : command.subcommands) {
        text += "                '" + below.name.back() + ":" + escaped(below.summary) + "'\n";
        cases += "                " + below.name.back() + ") _" + below.full_name("_") + " ;;\n";
    }
    return text +
           "            )\n            _describe command commands ;;\n        argument)\n            case $line[1] "
           "in\n" +
           cases + "            esac ;;\n    esac\n}\n\n";
}

}  // namespace

std::string zsh_completion(const Command& command) {
    std::string text = "#compdef fastkv\n# zsh completion for fastkv, made from its flags.\n\n";
    for (const Command* at : all_commands(command)) text += function_of(*at);
    return text + "_fastkv \"$@\"\n";
}

}  // namespace fastkv::manual
