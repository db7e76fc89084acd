// fastkv tune --check: one setting beside FullKV on the same prompts. Every answer is printed as it comes.
#include <cstdio>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "cli/input_text.h"
#include "cli/method_choice.h"
#include "cli/text.h"
#include "cli/tune_bench.h"
#include "eval/statistics.h"

namespace fastkv::cli {

namespace {

using Json = nlohmann::ordered_json;

// Prompts of one task and length, or all together.
struct Group {
    std::string name;
    int n_full = 0, full_right = 0;
    eval::Tally tally;  // lost and gained mean something only beside FullKV
    double full_score = 0, score = 0;
    double work = 0, cache = 0, full_seconds = 0, seconds = 0;  // sums
};

std::string group_name(const tune::RetrievalPrompt& prompt) {
    return prompt.length > 0 ? prompt.kind + " " + std::to_string(prompt.length) : prompt.kind;
}

std::vector<tune::RetrievalPrompt> prompts_to_ask(const TuneOptions& options, const Bench& bench) {
    std::vector<tune::RetrievalPrompt> prompts;
    if (!options.rows.empty()) {
        prompts = tune::read_rows(read_file(options.rows), std::filesystem::path(options.rows).filename().string());
        if (options.n_prompts && *options.n_prompts < int(prompts.size())) prompts.resize(size_t(*options.n_prompts));
        for (auto& prompt : prompts) prompt.n_predict = options.n_predict.value_or(prompt.n_predict);
        return prompts;
    }
    // Lengths take turns, so that a run that is cut off has some of each.
    for (int index = 0; index < options.n_prompts.value_or(32); ++index) {
        for (const int length : options.lengths) prompts.push_back(bench.prompt(length, index));
    }
    return prompts;
}

class Check {
  public:
    Check(const TuneOptions& options, Bench& bench, const MethodParams& method)
        : options_(options), bench_(bench), method_(resolve(method, bench.model().hparams())) {}

    void run() {
        const auto prompts = prompts_to_ask(options_, bench_);
        for (const auto& prompt : prompts) countdown_.expect(work_of(prompt));
        int done = 0;
        for (const auto& prompt : prompts) {
            countdown_.show(format("prompt %d of %zu", ++done, prompts.size()));
            ask(prompt);
            countdown_.did(work_of(prompt));
        }
        countdown_.clear();
        report();
    }

  private:
    static double work_of(const tune::RetrievalPrompt& prompt) { return double(prompt.message.size()); }
    bool prints_lines() const { return options_.output != "md"; }

    tune::Answer say(const tune::RetrievalPrompt& prompt, const MethodParams& method) {
        const tune::Answer answer = bench_.ask(prompt, method);
        if (prints_lines()) {
            print_line(tune::answer_json(prompt, method_text(method), bench_.engine(), answer));
        }
        return answer;
    }

    void print_line(const std::string& line) {
        countdown_.clear();
        std::printf("%s\n", line.c_str());
        if (std::fflush(stdout) != 0) fail("cannot write the answers to standard output");
    }

    void ask(const tune::RetrievalPrompt& prompt) {
        const bool compares = !options_.no_full && method_.method != "fullkv";
        tune::Answer full;
        if (compares) full = say(prompt, {.method = "fullkv"});
        const tune::Answer own = say(prompt, method_);
        const tune::Cost cost = bench_.cost(method_, own.n_prompt);
        for (const std::string& name : {group_name(prompt), std::string("all")}) {
            Group& group = group_of(name);
            group.n_full += compares ? 1 : 0;
            group.full_right += compares && full.right ? 1 : 0;
            group.tally.add(compares && full.right, own.right);
            group.full_score += full.score;
            group.score += own.score;
            group.work += cost.work;
            group.cache += cost.cache;
            group.full_seconds += full.seconds;
            group.seconds += own.seconds;
        }
    }

    // In the order of their first prompts, all together last.
    Group& group_of(const std::string& name) {
        for (Group& group : groups_) {
            if (group.name == name) return group;
        }
        const auto end = name == "all" || groups_.empty() ? groups_.end() : groups_.end() - 1;
        return *groups_.insert(end, Group{.name = name, .tally = {}});
    }

    void report() {
        if (groups_.size() == 2) groups_.pop_back();
        if (prints_lines()) {
            for (const Group& group : groups_) print_line(summary_json(group));
        }
        print_table(prints_lines() ? stderr : stdout);
    }

    std::string summary_json(const Group& group) const {
        const double n = group.tally.asked;
        const eval::Interval share = eval::wilson(group.tally.right, group.tally.asked);
        Json json = {{"summary", group.name},        {"method", method_text(method_)},
                     {"asked", group.tally.asked},   {"right", group.tally.right},
                     {"share", group.tally.share()}, {"interval", {share.low, share.high}},
                     {"score", group.score / n},     {"work", group.work / n},
                     {"cache", group.cache / n},     {"seconds", group.seconds / n}};
        if (group.n_full > 0) {
            const eval::Interval full = eval::wilson(group.full_right, group.n_full);
            const eval::Interval difference = eval::paired_difference(group.tally);
            json["full_right"] = group.full_right;
            json["full_share"] = group.full_right / n;
            json["full_interval"] = {full.low, full.high};
            json["full_score"] = group.full_score / n;
            json["full_seconds"] = group.full_seconds / n;
            json["lost"] = group.tally.lost;
            json["gained"] = group.tally.gained;
            json["difference"] = (group.tally.right - group.full_right) / n;
            json["difference_interval"] = {difference.low, difference.high};
            json["within_noise"] = eval::within_noise(group.tally);
        }
        return json.dump();
    }

    void print_table(std::FILE* out) const {
        std::fprintf(out, "%s\n\n", method_text(method_).c_str());
        std::fprintf(out, "| prompts | right | FullKV | points from FullKV | lost, gained | work | cache |\n");
        std::fprintf(out, "|---|---|---|---|---|---:|---:|\n");
        for (const Group& group : groups_) {
            const double n = group.tally.asked;
            std::string full = "", difference = "", changes = "";
            if (group.n_full > 0) {
                const eval::Interval interval = eval::paired_difference(group.tally);
                full = share_text(group.full_right, group.n_full);
                difference = format("%+.1f (%+.1f to %+.1f)", 100 * (group.tally.right - group.full_right) / n,
                                    100 * interval.low, 100 * interval.high);
                changes = format("%d, %d", group.tally.lost, group.tally.gained);
            }
            std::fprintf(out, "| %s | %s | %s | %s | %s | %.1f %% | %.1f %% |\n", group.name.c_str(),
                         share_text(group.tally.right, group.tally.asked).c_str(), full.c_str(), difference.c_str(),
                         changes.c_str(), 100 * group.work / n, 100 * group.cache / n);
        }
    }

    const TuneOptions& options_;
    Bench& bench_;
    MethodParams method_;  // resolved
    std::vector<Group> groups_;
    Countdown countdown_;
};

}  // namespace

int tune_check(const TuneOptions& options) {
    Bench bench(options);
    Check(options, bench, choose_method(options.method, bench.model())).run();
    return 0;
}

}  // namespace fastkv::cli
