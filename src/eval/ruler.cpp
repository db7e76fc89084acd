#include "eval/ruler.h"

#include <algorithm>
#include <map>
#include <set>

#include "eval/prompt.h"
#include "eval/string_match.h"
#include "fastkv/error.h"

namespace fastkv::eval {

namespace {

// Tokens of RULER's answers by kind of task (scripts/data/synthetic/constants.py), and of the reference's.
constexpr int niah_tokens = 128, vt_tokens = 30, cwe_tokens = 120, fwe_tokens = 50, qa_tokens = 32;
constexpr int reference_tokens = 64;

// scripts/synthetic.yaml.
const std::vector<std::pair<std::string, NiahParams>>& niah_tasks() {
    static const std::vector<std::pair<std::string, NiahParams>> tasks = {
        {"niah_single_1", {Haystack::noise, KeyKind::words, ValueKind::numbers}},
        {"niah_single_2", {Haystack::essay, KeyKind::words, ValueKind::numbers}},
        {"niah_single_3", {Haystack::essay, KeyKind::words, ValueKind::uuids}},
        {"niah_multikey_1", {Haystack::essay, KeyKind::words, ValueKind::numbers, 4, 1, 1}},
        {"niah_multikey_2", {Haystack::needles, KeyKind::words, ValueKind::numbers}},
        {"niah_multikey_3", {Haystack::needles, KeyKind::uuids, ValueKind::uuids}},
        {"niah_multivalue", {Haystack::essay, KeyKind::words, ValueKind::numbers, 1, 4, 1}},
        {"niah_multiquery", {Haystack::essay, KeyKind::words, ValueKind::numbers, 1, 1, 4}},
    };
    return tasks;
}

const NiahParams* niah_params(const std::string& task) {
    for (const auto& [name, params] : niah_tasks()) {
        if (name == task) return &params;
    }
    return nullptr;
}

bool is_qa(const std::string& task) { return task == "qa_1" || task == "qa_2"; }

std::string sample_id(const std::string& task, int length, int index) {
    return task + "/" + std::to_string(length) + "/" + std::to_string(index);
}

Sample sample_of(const std::string& task, int length, int index, RulerAnswers answers) {
    Sample sample;
    sample.id = sample_id(task, length, index);
    sample.task = task;
    sample.index = index;
    sample.length = length;
    sample.n_predict = ruler_answer_tokens(task, answers);
    sample.forbids_empty = true;
    return sample;
}

std::string name_of(RulerAnswers answers) { return answers == RulerAnswers::official ? "official" : "reference"; }

}  // namespace

const std::vector<std::string>& ruler_tasks() {
    static const std::vector<std::string> tasks = [] {
        std::vector<std::string> names;
        for (const auto& [name, params] : niah_tasks()) names.push_back(name);
        for (const char* name : {"vt", "cwe", "fwe", "qa_1", "qa_2"}) names.emplace_back(name);
        return names;
    }();
    return tasks;
}

std::vector<std::string> ruler_tasks_without_qa() {
    std::vector<std::string> tasks = ruler_tasks();
    std::erase_if(tasks, is_qa);
    return tasks;
}

void check_ruler_task(const std::string& name) {
    const auto& tasks = ruler_tasks();
    if (std::find(tasks.begin(), tasks.end(), name) == tasks.end()) {
        refuse(name + " is no task of RULER; there are: " + join(tasks, ", "));
    }
}

int ruler_answer_tokens(const std::string& task, RulerAnswers answers) {
    if (answers == RulerAnswers::reference) return reference_tokens;
    static const std::map<std::string, int> tokens = {
        {"vt", vt_tokens}, {"cwe", cwe_tokens}, {"fwe", fwe_tokens}, {"qa_1", qa_tokens}, {"qa_2", qa_tokens}};
    const auto found = tokens.find(task);
    return found == tokens.end() ? niah_tokens : found->second;
}

double ruler_score(const std::string& task, const std::string& prediction, const std::vector<std::string>& references) {
    const double share = share_contained(prediction, references);
    return is_qa(task) && share > 0 ? 1 : share;
}

std::vector<int> sample_numbers(int n, int below, Random& random) {
    // Floyd's (Bentley and Floyd 1987): n draws, however large the range.
    std::set<int> chosen;
    for (int i = below - n; i < below; ++i) {
        const auto drawn = int(random.below(uint64_t(i) + 1));
        if (!chosen.insert(drawn).second) chosen.insert(i);
    }
    std::vector<int> numbers(chosen.begin(), chosen.end());
    shuffle(numbers, random);
    return numbers;
}

Essays essays_of(std::string_view text) {
    constexpr size_t shortest = 3;
    Essays essays;
    std::set<std::string> common;
    for (size_t at = 0; at < text.size();) {
        const size_t from = text.find_first_not_of(" \t\r\n\f\v", at);
        if (from == std::string_view::npos) break;
        at = std::min(text.find_first_of(" \t\r\n\f\v", from), text.size());
        const std::string word(text.substr(from, at - from));
        essays.words.push_back(word);
        const bool plain = std::all_of(word.begin(), word.end(), [](char c) { return c >= 'a' && c <= 'z'; });
        if (plain && word.size() >= shortest) common.insert(word);
    }
    essays.common.assign(common.begin(), common.end());
    return essays;
}

// ---- all ------------------------------------------------------------------------------------------------------------

double RulerBase::score(const Sample& sample, const std::string& prediction) const {
    return ruler_score(sample.task, prediction, sample.references);
}

std::vector<Table> ruler_tables(const std::vector<Row>& rows) {
    std::map<int, std::vector<Row>> by_length;
    for (const Row& row : rows) by_length[row.length].push_back(row);
    std::vector<Table> tables;
    for (const auto& [length, of_length] : by_length) {
        const std::string title = length > 0 ? std::to_string(length) + " tokens" : "";
        tables.push_back(table_of(
            of_length, title, [](const Row& row) { return row.task; }, ruler_tasks()));
    }
    return tables;
}

// ---- made here ------------------------------------------------------------------------------------------------------

Ruler::Ruler(Model model, RulerParams params, RulerSources sources)
    : model_(std::move(model)), params_(std::move(params)), sources_(std::move(sources)) {
    essays_ = essays_of(sources_.essays);
    // Where all tasks use the essays but one, all results name them: a folder is for one text.
    hashes_["essays_hash"] = hex_text(fnv1a(sources_.essays));
    // Tasks and lengths take turns, so that a run that is cut off has some of each.
    for (int index = 0; index < params_.n_samples; ++index) {
        for (const int length : params_.lengths) {
            for (const std::string& task : params_.tasks) questions_.push_back({task, length, index});
        }
    }
    // Refuses lengths that are too short for a task, before anything is asked.
    for (const int length : params_.lengths) {
        for (const std::string& task : params_.tasks) prompt_of({task, length, 0}, /*probes=*/true);
    }
}

Json Ruler::settings() const {
    Json settings = {
        {"prompts", "generated"}, {"tokens_to_generate", name_of(params_.answers)}, {"seed", params_.seed}};
    settings.update(hashes_);
    return settings;
}

std::vector<SampleInfo> Ruler::samples() const {
    std::vector<SampleInfo> samples;
    for (const auto& [task, length, index] : questions_) {
        samples.push_back({sample_id(task, length, index), double(length), ruler_answer_tokens(task, params_.answers)});
    }
    return samples;
}

RulerPrompt Ruler::prompt_of(const Question& question, bool probes) const {
    const auto& [task, length, index] = question;
    // The same prompts for either number of tokens.
    const int reserved = std::max(ruler_answer_tokens(task, RulerAnswers::official), reference_tokens);
    const Fit fit{length - reserved,
                  [this](const std::string& input) { return int(prompt_tokens(model_, input, true).size()); }, probes};
    Random random(fnv1a(sample_id(task, length, index) + "/" + std::to_string(params_.seed)));
    random.next();
    try {
        if (const NiahParams* niah = niah_params(task)) return make_niah(*niah, essays_, fit, random);
        if (task == "vt") return make_vt(fit, random);
        if (task == "cwe") return make_cwe(essays_, length, fit, random);
        if (task == "fwe") return make_fwe(length, fit, random);
        return make_qa(task == "qa_1" ? sources_.squad.value() : sources_.hotpotqa.value(), index, fit, random);
    } catch (const Error& error) {
        throw Error(error.kind(), task + " of " + std::to_string(length) + " tokens, " + std::to_string(reserved) +
                                      " of them for the answer: " + error.what());
    }
}

Sample Ruler::make(size_t index) const {
    const Question& question = questions_.at(index);
    Sample sample = sample_of(question.task, question.length, question.index, params_.answers);
    RulerPrompt prompt = prompt_of(question, /*probes=*/false);
    sample.message = std::move(prompt.input);
    sample.references = std::move(prompt.outputs);
    return sample;
}

// ---- read from files ------------------------------------------------------------------------------------------------

RulerRows::RulerRows(const std::vector<RulerFile>& files, int n_samples, RulerAnswers answers) : answers_(answers) {
    hashes_ = Json::object();
    size_t most = 0;
    for (const RulerFile& file : files) {
        hashes_[file.task + "/" + std::to_string(file.length)] = hex_text(file.hash);
        most = std::max(most, file.rows.size());
    }
    if (n_samples > 0) most = std::min(most, size_t(n_samples));
    for (size_t index = 0; index < most; ++index) {
        for (const RulerFile& file : files) {
            if (index >= file.rows.size()) continue;
            const JsonLine& row = file.rows[index];
            Sample sample = sample_of(file.task, file.length, int(index), answers);
            sample.message = text_at(row, "input");
            if (sample.message.empty()) fail(row.where + " has no \"input\"");
            sample.references = texts_at(row, "outputs");
            samples_.push_back(std::move(sample));
        }
    }
}

Json RulerRows::settings() const {
    return {{"prompts", "read"}, {"tokens_to_generate", name_of(answers_)}, {"files", hashes_}};
}

std::vector<SampleInfo> RulerRows::samples() const {
    constexpr double bytes_per_token = 3;
    std::vector<SampleInfo> samples;
    for (const Sample& sample : samples_) {
        samples.push_back({sample.id, double(sample.message.size()) / bytes_per_token, sample.n_predict});
    }
    return samples;
}

Sample RulerRows::make(size_t index) const { return samples_.at(index); }

}  // namespace fastkv::eval
