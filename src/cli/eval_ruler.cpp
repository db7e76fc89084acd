// fastkv eval ruler: RULER's tasks, made here or read from its files.
#include <algorithm>
#include <charconv>
#include <filesystem>
#include <memory>
#include <sstream>

#include "cli/eval.h"
#include "cli/haystack.h"
#include "cli/input_text.h"
#include "cli/session_setup.h"
#include "cli/text.h"
#include "eval/ruler.h"
#include "methods/values.h"

namespace fastkv::cli {

namespace {

namespace fs = std::filesystem;

struct RulerOptions {
    eval::RulerParams params;
    std::string essays, squad, hotpotqa;
    bool gives_lengths = false, gives_seed = false;
    eval::Truncation protocol = eval::Truncation::message;
};

const Choices<eval::RulerAnswers> answer_kinds = {{"official", eval::RulerAnswers::official},
                                                  {"reference", eval::RulerAnswers::reference}};

std::vector<std::string> parse_tasks(const std::string& text) {
    std::vector<std::string> tasks;
    std::istringstream items(text);
    for (std::string item; std::getline(items, item, ',');) {
        eval::check_ruler_task(item);
        if (std::find(tasks.begin(), tasks.end(), item) == tasks.end()) tasks.push_back(item);
    }
    if (tasks.empty()) refuse("--tasks is empty");
    return tasks;
}

bool asks(const RulerOptions& own, const std::string& task) {
    return std::find(own.params.tasks.begin(), own.params.tasks.end(), task) != own.params.tasks.end();
}

// ---- made here ----

// Those that were named, else all whose data is there.
void choose_tasks(RulerOptions& own) {
    if (own.params.tasks.empty()) {
        own.params.tasks = eval::ruler_tasks_without_qa();
        if (!own.squad.empty()) own.params.tasks.emplace_back("qa_1");
        if (!own.hotpotqa.empty()) own.params.tasks.emplace_back("qa_2");
    }
    if (asks(own, "qa_1") && own.squad.empty()) refuse("qa_1 needs --squad FILE: SQuAD's dev-v2.0.json");
    if (asks(own, "qa_2") && own.hotpotqa.empty()) {
        refuse("qa_2 needs --hotpotqa FILE: HotpotQA's hotpot_dev_distractor_v1.json");
    }
}

eval::RulerSources read_sources(const RulerOptions& own) {
    eval::RulerSources sources;
    sources.essays = haystack_text(own.essays, "--essays");
    if (asks(own, "qa_1")) sources.squad = eval::squad_data(read_file(own.squad), own.squad);
    if (asks(own, "qa_2")) sources.hotpotqa = eval::hotpotqa_data(read_file(own.hotpotqa), own.hotpotqa);
    return sources;
}

int eval_generated(const EvalOptions& options, RulerOptions own) {
    choose_tasks(own);
    if (options.limit) own.params.n_samples = *options.limit;
    const eval::RulerSources sources = read_sources(own);
    const Model model = Model::load(options.model.path, options.model.params);
    for (const int length : own.params.lengths) {
        const int n_ctx = context_size(options.model, model);
        if (length > n_ctx) refuse(format("--lengths %d is beyond the context of %d", length, n_ctx));
    }
    return run_eval(options, model, eval::Ruler(model, own.params, sources), own.protocol);
}

// ---- read from files ----

// "data/RULER/4096/vt.jsonl" has 4,096 tokens.
int length_of(const fs::path& file) {
    const std::string folder = fs::absolute(file).parent_path().filename().string();
    int length = 0;
    const auto [end, error] = std::from_chars(folder.data(), folder.data() + folder.size(), length);
    return error == std::errc() && end == folder.data() + folder.size() ? length : 0;
}

std::vector<fs::path> jsonl_files(const fs::path& path) {
    if (!fs::is_directory(path)) return {path};
    std::vector<fs::path> files;
    for (const auto& entry : fs::recursive_directory_iterator(path)) {
        if (entry.path().extension() == ".jsonl") files.push_back(entry.path());
    }
    if (files.empty()) fail("--data " + path.string() + " has no .jsonl files");
    std::sort(files.begin(), files.end());
    return files;
}

std::vector<eval::RulerFile> read_files(const EvalOptions& options, const RulerOptions& own) {
    std::vector<eval::RulerFile> files;
    for (const fs::path& path : jsonl_files(options.data)) {
        eval::RulerFile file{path.stem().string(), length_of(path), {}};
        if (!own.params.tasks.empty() && !asks(own, file.task)) continue;
        try {
            eval::check_ruler_task(file.task);
        } catch (const Error& error) {
            refuse(path.string() + ": " + error.what());
        }
        const std::string content = read_file(path.string());
        const bool taken = std::any_of(files.begin(), files.end(), [&](const eval::RulerFile& other) {
            return other.task == file.task && other.length == file.length;
        });
        if (taken) {
            refuse(path.string() + " is a second file of " + file.task +
                   ": read one at a time, or put them into folders that are called by their length, such as 4096");
        }
        file.rows = eval::json_lines(content, path.string());
        file.hash = eval::fnv1a(content);
        if (file.rows.empty()) fail(path.string() + " has no rows");
        files.push_back(std::move(file));
    }
    if (files.empty()) fail("--data " + options.data + " has none of the tasks that --tasks names");
    return files;
}

int eval_rows(const EvalOptions& options, const RulerOptions& own) {
    const std::pair<bool, const char*> idle[] = {{own.gives_lengths, "--lengths"},
                                                 {own.gives_seed, "--seed"},
                                                 {!own.essays.empty(), "--essays"},
                                                 {!own.squad.empty(), "--squad"},
                                                 {!own.hotpotqa.empty(), "--hotpotqa"}};
    for (const auto& [given, flag] : idle) {
        if (given) refuse(std::string(flag) + " is not used with --data, which has prompts of its own");
    }
    const eval::RulerRows rows(read_files(options, own), options.limit.value_or(0), own.params.answers);
    return run_eval(options, Model::load(options.model.path, options.model.params), rows, own.protocol);
}

void add_own_options(CLI::App& command, const std::shared_ptr<RulerOptions>& own) {
    const auto add = [&](const char* names, const char* type, const std::string& help,
                         std::function<void(const std::string&)> set) {
        command.add_option_function<std::string>(names, std::move(set), help)->type_name(type);
    };
    command.option_defaults()->group("RULER");
    add("--tasks", "NAME,NAME,...",
        "of niah_single_1, _2, _3, niah_multikey_1, _2, _3,\nniah_multivalue, niah_multiquery, vt, cwe, fwe, qa_1, "
        "qa_2\n(default: all that have their data)",
        [own](const std::string& text) { own->params.tasks = parse_tasks(text); });
    add("--lengths", "N,N,...", "tokens of prompt and answer together (default 4096)", [own](const std::string& text) {
        own->params.lengths = parse_lengths("--lengths", text);
        own->gives_lengths = true;
    });
    add("--tokens-to-generate", "KIND",
        "tokens that an answer may take: official (RULER's, by task)\nor reference (64, as the FastKV reference) "
        "(default official)",
        [own](const std::string& text) { own->params.answers = choose(answer_kinds, "--tokens-to-generate", text); });
    add_truncation_option(command, [own](eval::Truncation protocol) { own->protocol = protocol; });
    add("--seed", "N", "of all that is drawn (default 42)", [own](const std::string& text) {
        own->params.seed = parse_number<uint64_t>("--seed", text, "a whole number from 0");
        own->gives_seed = true;
    });
    command.add_option("--essays", own->essays, "a folder of texts, or one, to hide things in (default: the essays)")
        ->type_name("FILE|DIR");
    command.add_option("--squad", own->squad, "SQuAD's dev-v2.0.json, for qa_1")->type_name("FILE");
    command.add_option("--hotpotqa", own->hotpotqa, "HotpotQA's hotpot_dev_distractor_v1.json, for qa_2")
        ->type_name("FILE");
}

}  // namespace

void add_eval_ruler(CLI::App& eval, EvalOptions& options) {
    CLI::App* command = eval.add_subcommand("ruler", "RULER: find, track and count, in 13 tasks of any length.");
    const auto own = std::make_shared<RulerOptions>();
    add_own_options(*command, own);
    add_eval_options(
        *command, options,
        "RULER's own files instead: TASK.jsonl, or a folder of\nthem, such as RULER/4096 (default: prompts "
        "are made)",
        "samples per task and length (default 20; --data: all)");
    command->callback([&options, own] {
        options.chosen = [&options, own] {
            return options.data.empty() ? eval_generated(options, *own) : eval_rows(options, *own);
        };
    });
}

}  // namespace fastkv::cli
