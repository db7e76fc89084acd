#include "manual/man_page.h"

#include <algorithm>
#include <sstream>

namespace fastkv::manual {

namespace {

/// Text as troff reads it: backslashes and hyphens are themselves, and no line is a request.
std::string escaped(const std::string& plain) {
    std::string text = replaced(replaced(plain, "\\", "\\e"), "-", "\\-");
    if (text.starts_with('.') || text.starts_with('\'')) text.insert(0, "\\&");
    return text;
}

/// As an argument of a macro, which ends at a quote.
std::string quoted(const std::string& plain) { return "\"" + replaced(escaped(plain), "\"", "\\(dq") + "\""; }

/// Lines that stay lines.
std::string lines_of(const std::string& plain) {
    std::string text;
    std::istringstream lines(plain);
    for (std::string line; std::getline(lines, line);) text += (text.empty() ? "" : "\n.br\n") + escaped(line);
    return text + "\n";
}

/// Lines as they are, in one width: examples, tables.
std::string verbatim(const std::string& plain) {
    std::string text = ".nf\n";
    std::istringstream lines(plain);
    for (std::string line; std::getline(lines, line);) text += (line.empty() ? "\\&" : escaped(line)) + "\n";
    return text + ".fi\n";
}

std::string flag_text(const Flag& flag) {
    std::string names;
    for (const std::string& name : flag.names) names += (names.empty() ? "\\fB" : ", \\fB") + escaped(name) + "\\fR";
    if (!flag.value.empty()) names += (names.empty() ? "\\fI" : " \\fI") + escaped(flag.value) + "\\fR";
    return ".TP\n" + names + "\n" + lines_of(flag.help);
}

bool same(const FlagGroup& a, const FlagGroup& b) {
    const auto equal = [](const Flag& x, const Flag& y) { return x.names == y.names && x.help == y.help; };
    return a.heading == b.heading && std::equal(a.flags.begin(), a.flags.end(), b.flags.begin(), b.flags.end(), equal);
}

/// Flags that several commands have are told once, in a section of their own.
bool is_shared(const FlagGroup& group, const Command& root) {
    int n = 0;
    for (const Command* command : all_commands(root)) {
        for (const FlagGroup& other : command->groups) n += same(group, other) ? 1 : 0;
    }
    return n > 1;
}

/// Every such group once, in the order in which they come.
std::vector<const FlagGroup*> shared_groups(const Command& root) {
    std::vector<const FlagGroup*> shared;
    for (const Command* command : all_commands(root)) {
        for (const FlagGroup& group : command->groups) {
            const auto known = [&](const FlagGroup* other) { return same(group, *other); };
            if (is_shared(group, root) && std::none_of(shared.begin(), shared.end(), known)) shared.push_back(&group);
        }
    }
    return shared;
}

std::string command_text(const Command& command, const Command& root) {
    std::string text = ".SH " + quoted(command.full_name()) + "\n" + lines_of(command.summary);
    text += ".PP\n" + verbatim(command.usage);
    for (const Flag& argument : command.arguments) text += flag_text(argument);
    std::string elsewhere;
    for (const FlagGroup& group : command.groups) {
        if (is_shared(group, root)) {
            elsewhere += (elsewhere.empty() ? "" : "; ") + group.heading;
            continue;
        }
        text += ".SS " + quoted(group.heading) + "\n";
        for (const Flag& flag : group.flags) text += flag_text(flag);
    }
    if (!elsewhere.empty()) text += ".PP\n" + escaped("Further flags, see below: " + elsewhere + ".") + "\n";
    if (!command.notes.empty()) text += ".PP\n" + verbatim(command.notes);
    return text;
}

}  // namespace

std::string man_page(const Command& command, const std::string& version, const std::string& date) {
    std::string page = ".TH FASTKV 1 " + date + " " + quoted("fastkv " + version) + " \"User Commands\"\n";
    page += ".SH NAME\nfastkv \\- " + escaped("answers about long documents, with a compressed key/value cache") + "\n";
    page += ".SH SYNOPSIS\n";
    std::string synopsis;
    for (const Command* below : all_commands(command)) {
        if (below->subcommands.empty()) synopsis += (synopsis.empty() ? "" : "\n") + below->usage;
    }
    page += verbatim(synopsis);
    page += ".SH DESCRIPTION\n" + lines_of(command.summary) + ".PP\n" + verbatim(command.notes);
    page += ".SH OPTIONS\n";
    for (const Flag& flag : command.flags()) page += flag_text(flag);
    for (const Command* below : all_commands(command)) {
        if (below != &command) page += command_text(*below, command);
    }
    page += ".SH \"FLAGS OF SEVERAL COMMANDS\"\n";
    for (const FlagGroup* group : shared_groups(command)) {
        page += ".SS " + quoted(group->heading) + "\n";
        for (const Flag& flag : group->flags) page += flag_text(flag);
    }
    return page;
}

}  // namespace fastkv::manual
