// The manual page and the completions as shells and man see them: everything that --help tells is in them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "support/process.h"

namespace fastkv {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;
using Words = std::vector<std::string>;
namespace fs = std::filesystem;

const std::string folder = FASTKV_MANUAL_FOLDER "/";

const std::vector<Words> commands = {{},
                                     {"run"},
                                     {"chat"},
                                     {"inspect"},
                                     {"tune"},
                                     {"bench"},
                                     {"serve"},
                                     {"report"},
                                     {"eval"},
                                     {"eval", "needle"},
                                     {"eval", "ruler"},
                                     {"eval", "longbench"},
                                     {"eval", "compare"},
                                     {"eval", "oracle"}};

test::ProcessResult shell(const std::string& script, const Words& arguments = {}) {
    Words command = {"/bin/bash", "-c", script, "shell"};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return test::run_process(command);
}

bool has_program(const std::string& name) { return shell("command -v " + name).code == 0; }

Words lines_of(const std::string& text) {
    Words lines;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) lines.push_back(line);
    return lines;
}

/// "-m", "--model" and so on, as --help lists them.
const std::set<std::string>& flags_in_help(const Words& command) {
    static std::map<Words, std::set<std::string>> known;
    std::set<std::string>& flags = known[command];
    if (!flags.empty()) return flags;
    Words arguments = {FASTKV_COMMAND};
    arguments.insert(arguments.end(), command.begin(), command.end());
    arguments.push_back("--help");
    const auto result = test::run_process(arguments);
    EXPECT_EQ(result.code, 0) << result.err;
    for (const std::string& line : lines_of(result.out)) {
        static const std::regex listed("^  (-[^ ]+)");
        std::smatch found;
        if (!std::regex_search(line, found, listed)) continue;
        std::istringstream names(found[1].str());
        for (std::string name; std::getline(names, name, ',');) flags.insert(name);
    }
    EXPECT_GE(flags.size(), command.empty() ? 2u : 1u);
    return flags;
}

/// What bash offers for the last of `words`, which follow "fastkv".
Words bash_offers(const Words& words, const std::string& where = "/") {
    Words arguments = {where, folder + "fastkv.bash"};
    arguments.insert(arguments.end(), words.begin(), words.end());
    const auto result = shell(
        "cd \"$1\" && source \"$2\" && shift 2 && COMP_WORDS=(fastkv \"$@\") && COMP_CWORD=$# || exit 1\n"
        "_fastkv; printf '%s\\n' \"${COMPREPLY[@]}\"",
        arguments);
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(result.err, "");
    Words offers = lines_of(result.out);
    std::erase(offers, "");
    return offers;
}

// ---- bash ----------------------------------------------------------------------------------------------------------

TEST(BashCompletion, OffersWhatHelpLists) {
    for (const Words& command : commands) {
        Words words = command;
        words.push_back("-");
        const Words offers = bash_offers(words);
        const std::set<std::string>& flags = flags_in_help(command);
        EXPECT_THAT(offers, IsSupersetOf(flags)) << ::testing::PrintToString(command);
    }
}

TEST(BashCompletion, OffersCommandsFlagsAndWords) {
    EXPECT_THAT(bash_offers({""}), IsSupersetOf({"run", "chat", "serve", "eval", "report"}));
    EXPECT_THAT(bash_offers({"se"}), ElementsAre("serve"));
    EXPECT_THAT(bash_offers({"eval", "ne"}), ElementsAre("needle"));
    EXPECT_THAT(bash_offers({"run", "--pool"}), ElementsAre("--pooling"));
    EXPECT_THAT(bash_offers({"run", "-n", "5", "-ng"}), ElementsAre("-ngl"));
    EXPECT_THAT(bash_offers({"run", "--pooling", "m"}), ElementsAre("max"));
    EXPECT_THAT(bash_offers({"run", "--pooling", "=", "m"}), ElementsAre("max"));
    EXPECT_THAT(bash_offers({"run", "--pooling", "="}), ElementsAre("max", "avg"));
    EXPECT_THAT(bash_offers({"serve", "--method", "pyr"}), ElementsAre("pyramidinfer"));
    EXPECT_THAT(bash_offers({"bench", "--methods", "fullkv,fas"}), ElementsAre("fullkv,fastkv"));
    EXPECT_THAT(bash_offers({"run", "--kernel", ""}), ElementsAre("auto"));
    EXPECT_THAT(bash_offers({"run", "--temp", ""}), IsEmpty());
}

TEST(BashCompletion, OffersFilesWhereFilesAreMeant) {
    const std::string where = test::temporary_path(".files");
    fs::create_directories(where + "/results");
    test::write_file(where + "/my model.gguf", "");
    EXPECT_THAT(bash_offers({"run", "-m", ""}, where), IsSupersetOf({"my model.gguf", "results"}));
    EXPECT_THAT(bash_offers({"eval", "compare", "-o", ""}, where), ElementsAre("results"));
    EXPECT_THAT(bash_offers({"report", "r"}, where), ElementsAre("results"));
    EXPECT_THAT(bash_offers({"run", "my"}, where), IsEmpty());
}

// ---- zsh and fish --------------------------------------------------------------------------------------------------

TEST(ZshCompletion, OffersCommandsFlagsAndWords) {
    if (!has_program("zsh")) GTEST_SKIP() << "zsh is not here: its completion is not checked";
    // A terminal within zsh, in which Tab is pressed.
    const std::string script = R"(
        zmodload zsh/zpty
        zpty shell zsh -f -i
        zpty -w shell "PROMPT=; fpath=($1 \$fpath); autoload -Uz compinit; compinit -u -D; zstyle ':completion:*' list-prompt ''; LISTMAX=10000"
        zpty -w shell "echo rea''dy"
        zpty -r shell text '*ready*'
        zpty -n -w shell "$2"$'\t'
        sleep 1
        zpty -n -w shell $'\x01'"echo "$'\n'"echo do''ne"$'\n'
        zpty -r shell text '*done*'
        print -r -- $text)";
    const auto offers = [&](const std::string& typed) {
        return test::run_process({"/usr/bin/env", "zsh", "-f", "-c", script, "shell", folder, typed}).out;
    };
    EXPECT_THAT(offers("fastkv eval lo"), HasSubstr("fastkv eval longbench"));
    EXPECT_THAT(offers("fastkv run --pool"), HasSubstr("fastkv run --pooling"));
    EXPECT_THAT(offers("fastkv run --pooling m"), HasSubstr("fastkv run --pooling max"));
}

TEST(FishCompletion, OffersCommandsFlagsAndWords) {
    if (!has_program("fish")) GTEST_SKIP() << "fish is not here: its completion is not checked";
    const auto offers = [](const std::string& typed) {
        const auto result = test::run_process({"/usr/bin/env", "fish", "--no-config", "-c",
                                               "source " + folder + "fastkv.fish; complete -C '" + typed + "'"});
        EXPECT_EQ(result.code, 0) << result.err;
        EXPECT_EQ(result.err, "");
        Words words = lines_of(result.out);
        for (std::string& word : words) word = word.substr(0, word.find('\t'));
        return words;
    };
    EXPECT_THAT(offers("fastkv "), IsSupersetOf({"run", "chat", "serve", "eval", "report"}));
    EXPECT_THAT(offers("fastkv eval ne"), ElementsAre("needle"));
    EXPECT_THAT(offers("fastkv run --pool"), Contains("--pooling"));
    EXPECT_THAT(offers("fastkv run --pooling m"), ElementsAre("max"));
    EXPECT_THAT(offers("fastkv bench --methods fullkv,fas"), ElementsAre("fullkv,fastkv"));
    for (const Words& command : commands) {
        std::string typed = "fastkv";
        for (const std::string& word : command) typed += " " + word;
        const Words flags = offers(typed + " --");
        for (const std::string& flag : flags_in_help(command)) {
            if (!flag.starts_with("--")) continue;
            EXPECT_THAT(flags, Contains(flag)) << typed;
        }
    }
}

// ---- the manual page -----------------------------------------------------------------------------------------------

TEST(ManualPage, TellsWhatHelpLists) {
    const std::string page = test::read_file(folder + "fastkv.1");
    for (const Words& command : commands) {
        std::string name = "fastkv";
        for (const std::string& word : command) name += " " + word;
        EXPECT_THAT(page, HasSubstr(command.empty() ? ".TH FASTKV 1 " : ".SH \"" + name + "\"\n"));
        for (const std::string& flag : flags_in_help(command)) {
            EXPECT_THAT(page, HasSubstr("\\fB" + std::regex_replace(flag, std::regex("-"), "\\-") + "\\fR")) << name;
        }
    }
}

TEST(ManualPage, IsSoundTroff) {
    const bool mandoc = has_program("mandoc");
    if (!mandoc && !has_program("groff")) GTEST_SKIP() << "neither mandoc nor groff is here: the page is not checked";
    const auto result = mandoc ? shell("mandoc -Tlint -Wwarning " + folder + "fastkv.1")
                               : shell("groff -man -Tutf8 -ww -z " + folder + "fastkv.1");
    EXPECT_EQ(result.code, 0);
    EXPECT_EQ(result.out + result.err, "");
}

}  // namespace
}  // namespace fastkv
