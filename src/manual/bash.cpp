#include <map>

#include "manual/completion.h"

namespace fastkv::manual {

namespace {

/// The commands, and which of their words leads where: "fastkv eval:needle".
constexpr const char* head = R"(# bash completion for fastkv, made from its flags.
_fastkv() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command=fastkv commands='' flags='' i
    COMPREPLY=()
    # --flag=value comes as three words
    if [[ $cur == = ]]; then
        cur=''
    elif [[ $prev == = ]]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        case $command:${COMP_WORDS[i]} in
)";

constexpr const char* tail = R"(    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$cur"))
    elif [[ $commands == @* ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen "-${commands#@}" -- "$cur")
    else
        COMPREPLY=($(compgen -W "$commands" -- "$cur"))
    fi
}
complete -F _fastkv fastkv
)";

/// What a shell does for a value of this kind, as a line of bash.
std::string action_of(const Flag& flag) {
    const std::string words = join(flag.words, " ");
    const std::string names = "compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen ";
    switch (flag.kind) {
        case ValueKind::none: return "";
        case ValueKind::file: return names + "-f -- \"$cur\")";
        case ValueKind::folder: return names + "-d -- \"$cur\")";
        case ValueKind::free:
            if (flag.words.empty()) return ":";
            [[fallthrough]];
        case ValueKind::choice: return "COMPREPLY=($(compgen -W '" + words + "' -- \"$cur\"))";
        case ValueKind::choices: break;
    }
    // The last of several; those before it stay.
    return "local before=''; [[ $cur == *,* ]] && before=${cur%,*},; COMPREPLY=($(compgen -P \"$before\" -W '" + words +
           "' -- \"${cur##*,}\"))";
}

/// Flags with the same action share a line.
std::string values_of(const Command& command) {
    std::map<std::string, std::string> patterns;  // by action
    for (const Flag& flag : command.flags()) {
        const std::string action = action_of(flag);
        for (const std::string& name : flag.names) {
            if (action.empty()) continue;
            std::string& pattern = patterns[action];
            pattern += (pattern.empty() ? "'" : " | '") + command.full_name() + ":" + name + "'";
        }
    }
    std::string text;
    for (const auto& [action, pattern] : patterns) {
        text += "        " + pattern + ")\n            " + action + "\n            return ;;\n";
    }
    return text;
}

std::string names_of(const Command& command) {
    std::string names;
    for (const Command& below : command.subcommands) names += (names.empty() ? "" : " ") + below.name.back();
    if (names.empty() && !command.arguments.empty()) {
        names = command.arguments[0].value == "DIR" ? "@d" : "@f";
    }
    return names;
}

}  // namespace

std::string bash_completion(const Command& command) {
    std::string ways, values, offers;
    for (const Command* at : all_commands(command)) {
        for (const Command& below : at->subcommands) {
            ways += "            '" + at->full_name() + ":" + below.name.back() + "') command='" + below.full_name() +
                    "' ;;\n";
        }
        values += values_of(*at);
        std::vector<std::string> flags;
        for (const Flag& flag : at->flags()) flags.insert(flags.end(), flag.names.begin(), flag.names.end());
        offers += "        '" + at->full_name() + "')\n            commands='" + names_of(*at) +
                  "'\n            flags='" + join(flags, " ") + "' ;;\n";
    }
    return head + ways + "        esac\n    done\n    case $command:$prev in\n" + values +
           "    esac\n    case $command in\n" + offers + tail;
}

}  // namespace fastkv::manual
