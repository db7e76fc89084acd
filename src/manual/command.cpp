#include "manual/command.h"

#include <algorithm>
#include <cctype>
#include <sstream>

#include "cli/help.h"
#include "cli/options.h"
#include "fastkv/method.h"

namespace fastkv::manual {

namespace {

bool is_placeholder(const std::string& word) {
    return std::none_of(word.begin(), word.end(), [](unsigned char c) { return std::islower(c); });
}

/// "N|off" is a number or that word; "max|avg" is one of these.
std::vector<std::string> words_of(const std::string& value) {
    std::vector<std::string> words;
    std::istringstream parts(value);
    for (std::string part; std::getline(parts, part, '|');) {
        if (!is_placeholder(part)) words.push_back(part);
    }
    return words;
}

void set_kind(Flag& flag) {
    const std::string& value = flag.value;
    const auto named = [&](const char* name) {
        return std::find(flag.names.begin(), flag.names.end(), name) != flag.names.end();
    };
    flag.kind = ValueKind::free;
    if (value.empty()) flag.kind = ValueKind::none;
    if (value.starts_with("FILE")) flag.kind = ValueKind::file;
    if (value == "DIR") flag.kind = ValueKind::folder;
    flag.words = words_of(value);
    const bool only_words = std::count(value.begin(), value.end(), '|') + 1 == long(flag.words.size());
    if (!flag.words.empty() && only_words) flag.kind = ValueKind::choice;
    if (named("--method") || named("--methods")) {
        flag.kind = named("--methods") ? ValueKind::choices : ValueKind::choice;
        flag.words.clear();
        for (const MethodInfo& info : list_methods()) flag.words.push_back(info.name);
    }
}

Flag flag_of(const CLI::Option& option) {
    Flag flag;
    for (const std::string& name : option.get_snames()) flag.names.push_back("-" + name);
    for (const std::string& name : option.get_lnames()) {
        if (const std::string shorter = cli::short_name("--" + name); !shorter.empty()) flag.names.push_back(shorter);
        flag.names.push_back("--" + name);
    }
    flag.value = option.get_positional() ? option.get_name(true) : option.get_type_name();
    flag.help = option.get_description();
    set_kind(flag);
    return flag;
}

std::vector<FlagGroup> groups_of(const CLI::App& app) {
    std::vector<FlagGroup> groups;
    for (const CLI::Option* option : app.get_options()) {
        if (option->get_positional() || option->get_group().empty()) continue;
        const auto found = std::find_if(groups.begin(), groups.end(),
                                        [&](const FlagGroup& group) { return group.heading == option->get_group(); });
        FlagGroup& group = found != groups.end() ? *found : groups.emplace_back(FlagGroup{option->get_group(), {}});
        group.flags.push_back(flag_of(*option));
    }
    return groups;
}

/// Without "Usage: ", and without what aligns further lines with it.
std::string usage_of(const CLI::App& app) {
    std::string usage = cli::HelpFormatter().make_usage(&app, "");
    usage = replaced(usage.substr(std::string("Usage: ").size()), "\n       ", "\n");
    while (usage.ends_with('\n')) usage.pop_back();
    return usage;
}

}  // namespace

std::string Command::full_name(const std::string& separator) const { return join(name, separator); }

std::vector<Flag> Command::flags() const {
    std::vector<Flag> all;
    for (const FlagGroup& group : groups) all.insert(all.end(), group.flags.begin(), group.flags.end());
    return all;
}

Command describe(const CLI::App& app) {
    Command command;
    for (const CLI::App* at = &app; at != nullptr; at = at->get_parent()) {
        command.name.insert(command.name.begin(), at->get_name());
    }
    command.summary = app.get_description();
    command.usage = usage_of(app);
    command.notes = app.get_footer();
    command.groups = groups_of(app);
    for (const CLI::Option* option : app.get_options()) {
        if (option->get_positional()) command.arguments.push_back(flag_of(*option));
    }
    for (const CLI::App* below : app.get_subcommands({})) command.subcommands.push_back(describe(*below));
    return command;
}

std::vector<const Command*> all_commands(const Command& command) {
    std::vector<const Command*> all = {&command};
    for (const Command& below : command.subcommands) {
        const auto more = all_commands(below);
        all.insert(all.end(), more.begin(), more.end());
    }
    return all;
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

}  // namespace fastkv::manual
