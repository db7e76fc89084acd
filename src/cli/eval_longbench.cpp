// fastkv eval longbench: LongBench's English and code sets, from its own files.
#include <filesystem>
#include <memory>
#include <sstream>

#include "cli/eval.h"
#include "cli/input_text.h"
#include "cli/text.h"
#include "eval/longbench.h"
#include "methods/values.h"

namespace fastkv::cli {

namespace {

namespace fs = std::filesystem;

struct LongBenchOptions {
    std::vector<std::string> sets;  // --tasks; none: all that there are
    bool by_length = false;
    eval::Truncation protocol = eval::Truncation::message;
};

std::vector<std::string> parse_tasks(const std::string& text) {
    std::vector<std::string> sets;
    std::istringstream items(text);
    for (std::string item; std::getline(items, item, ',');) {
        const std::string& set = eval::find_longbench_set(item).name;
        if (std::find(sets.begin(), sets.end(), set) == sets.end()) sets.push_back(set);
    }
    if (sets.empty()) refuse("--tasks is empty");
    return sets;
}

eval::LongBenchData::File read(const fs::path& path) { return {path.string(), read_file(path.string())}; }

// The folder itself, or the repository's folder of that name in it or beside it.
fs::path find_folder(const fs::path& root, const std::string& name) {
    for (const fs::path& folder : {root / name, root / ".." / name}) {
        if (fs::is_directory(folder)) return folder;
    }
    return root;
}

// With --longbench-e its own files where there are some; the others can be divided by length as well.
fs::path file_of(const fs::path& folder, const std::string& set, bool by_length) {
    const fs::path own = folder / (set + "_e.jsonl");
    return by_length && fs::exists(own) ? own : folder / (set + ".jsonl");
}

eval::LongBenchData read_data(const std::string& root, const LongBenchOptions& options) {
    if (root.empty()) refuse("--data DIR is missing: the folder of LongBench's repository, with data/ and config/");
    if (!fs::is_directory(root)) fail(root + " is not a folder");
    const fs::path config = find_folder(root, "config");
    const fs::path folder = fs::is_directory(fs::path(root) / "data") ? fs::path(root) / "data" : fs::path(root);
    eval::LongBenchData data{read(config / "dataset2prompt.json"), read(config / "dataset2maxlen.json"), {}};
    for (const eval::LongBenchSet& set : eval::longbench_sets()) {
        const fs::path path = file_of(folder, set.name, options.by_length);
        if (fs::exists(path)) data.files[set.name] = read(path);
    }
    if (data.files.empty()) fail(folder.string() + " has none of LongBench's files: multi_news.jsonl and others");
    for (const std::string& set : options.sets) {
        if (!data.files.count(set)) fail(file_of(folder, set, options.by_length).string() + " does not exist");
    }
    return data;
}

int eval_longbench(const EvalOptions& options, const LongBenchOptions& own) {
    const eval::LongBenchData data = read_data(options.data, own);
    eval::LongBenchParams params{own.sets, options.limit.value_or(0), own.by_length};
    if (params.sets.empty()) {
        for (const auto& [set, file] : data.files) params.sets.push_back(set);
    }
    const eval::LongBench longbench(params, data);
    const Model model = Model::load(options.model.path, options.model.params);
    return run_eval(options, model, longbench, own.protocol);
}

}  // namespace

void add_eval_longbench(CLI::App& eval, EvalOptions& options) {
    CLI::App* command = eval.add_subcommand("longbench", "LongBench: questions, summaries and code from real data.");
    const auto own = std::make_shared<LongBenchOptions>();
    command->option_defaults()->group("LongBench");
    command
        ->add_option_function<std::string>(
            "--tasks", [own](const std::string& text) { own->sets = parse_tasks(text); },
            "sets, of the 16 in English and code (default: all that DIR has)")
        ->type_name("NAME,NAME,...");
    command->add_flag("--longbench-e", own->by_length,
                      "LongBench-E: tables by the words of the text; reads NAME_e.jsonl where there is one");
    add_truncation_option(*command, [own](eval::Truncation protocol) { own->protocol = protocol; });
    add_eval_options(
        *command, options,
        "folder of LongBench's repository: data/NAME.jsonl (or NAME.jsonl)\nand config/dataset2prompt.json, "
        "config/dataset2maxlen.json",
        "ask the first N samples of every set");
    command->callback([&options, own] { options.chosen = [&options, own] { return eval_longbench(options, *own); }; });
}

}  // namespace fastkv::cli
