#include "eval/longbench.h"

#include <algorithm>
#include <utility>

#include "eval/json_lines.h"
#include "eval/random.h"
#include "fastkv/error.h"

namespace fastkv::eval {

namespace {

Json parse_object(const LongBenchData::File& file) {
    Json json = Json::parse(file.content, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) fail(file.name + " is not a JSON object");
    return json;
}

/// What the configuration file says of a set.
const Json& entry_of(const Json& json, const LongBenchData::File& file, const std::string& set) {
    const auto found = json.find(set);
    if (found == json.end()) fail(file.name + " has no \"" + set + "\"");
    return *found;
}

int whole_number_at(const JsonLine& line, const char* key) {
    const auto found = line.json.find(key);
    if (found == line.json.end() || !found->is_number_integer()) fail(line.where + " has no number \"" + key + "\"");
    return found->get<int>();
}

/// Everything of the row that is not in the frame's own keys, without the text itself.
Json more_of(const JsonLine& line, const LongBenchSet& set) {
    Json more;
    more["metric"] = metric_name(set.metric);
    for (const char* key : {"_id", "input", "language", "all_classes"}) {
        const auto found = line.json.find(key);
        if (found != line.json.end() && !found->is_null() && *found != "") more[key] = *found;
    }
    more["n_words"] = whole_number_at(line, "length");
    return more;
}

/// Wilson's interval is for scores that are 0 or 1; the others scatter less than it allows.
Mean mean_of_set(const std::vector<double>& scores) {
    const bool right_or_wrong = std::all_of(scores.begin(), scores.end(), [](double s) { return s == 0 || s == 1; });
    return right_or_wrong ? mean_of(scores) : mean_of_values(scores);
}

/// A column for each set, and their plain mean where there are several.
Table by_sets(const std::vector<Row>& rows, const std::string& title) {
    std::vector<std::string> order;
    for (const LongBenchSet& set : longbench_sets()) order.push_back(set.name);
    Table table = table_of(
        rows, title, [](const Row& row) { return row.task; }, order);
    std::map<std::pair<std::string, std::string>, std::vector<double>> scores;  // by setting and set
    for (const Row& row : rows) {
        if (!row.failed()) scores[{row.setting, row.task}].push_back(row.score);
    }
    const size_t n_set = table.columns.size() > 1 ? table.columns.size() - 1 : 1;
    for (SettingLine& line : table.lines) {
        line.cells.resize(n_set);
        for (size_t i = 0; i < n_set; ++i) {
            line.cells[i].score = mean_of_set(scores[{line.setting, table.columns[i]}]);
        }
        if (n_set > 1) line.cells.push_back(mean_of_cells(line.cells, mean_from_intervals));
    }
    return table;
}

/// The table by sets becomes one by groups: a group is the mean of its sets, and the last column that of the groups.
Table by_groups(const Table& by_set, int n_set) {
    Table table = by_set;
    const int n_missing = int(longbench_sets().size()) - n_set;
    table.title = "Means of groups" + (n_missing == 0 ? std::string(", and their mean: the average of FastKV's paper")
                                                      : "; " + std::to_string(n_missing) + " sets are not among them");
    table.columns.clear();
    std::vector<std::vector<size_t>> members;  // [groups] columns of by_set
    for (size_t i = 0; i < size_t(n_set); ++i) {
        const std::string& group = find_longbench_set(by_set.columns[i]).group;
        if (table.columns.empty() || table.columns.back() != group) {
            table.columns.push_back(group);
            members.emplace_back();
        }
        members.back().push_back(i);
    }
    for (SettingLine& line : table.lines) {
        const std::vector<Cell> of_sets = std::move(line.cells);
        line.cells.clear();
        for (const std::vector<size_t>& columns : members) {
            std::vector<Cell> cells;
            for (const size_t column : columns) cells.push_back(of_sets[column]);
            line.cells.push_back(mean_of_cells(cells, mean_from_intervals));
        }
        line.cells.push_back(mean_of_cells(line.cells, mean_from_intervals));
    }
    table.columns.push_back("mean of groups");
    return table;
}

}  // namespace

std::string fill_in(const std::string& pattern, const Json& row, const std::string& where) {
    std::string text;
    for (size_t i = 0; i < pattern.size(); ++i) {
        const char c = pattern[i];
        if (c != '{' && c != '}') {
            text += c;
        } else if (i + 1 < pattern.size() && pattern[i + 1] == c) {
            text += pattern[i++];
        } else {
            const size_t end = pattern.find('}', i);
            if (c == '}' || end == pattern.npos) fail(where + ": the prompt has a single \"" + c + "\"");
            const std::string name = pattern.substr(i + 1, end - i - 1);
            const auto found = row.find(name);
            if (found == row.end()) fail(where + " has no \"" + name + "\", which the prompt wants");
            text += found->is_string() ? found->get<std::string>() : found->dump();
            i = end;
        }
    }
    return text;
}

LongBench::LongBench(LongBenchParams params, const LongBenchData& data) : params_(std::move(params)) {
    uint64_t hash = fnv1a(data.lengths.content, fnv1a(data.prompts.content));
    for (const auto& [set, file] : data.files) hash = fnv1a(file.content, fnv1a(set, hash));
    data_hash_ = hex_text(hash);
    const Json prompts = parse_object(data.prompts), lengths = parse_object(data.lengths);
    for (const std::string& set : params_.sets) add_set(find_longbench_set(set), data, prompts, lengths);
    // A run that is cut off has some of every set.
    std::stable_sort(questions_.begin(), questions_.end(),
                     [](const Question& a, const Question& b) { return a.index < b.index; });
}

void LongBench::add_set(const LongBenchSet& set, const LongBenchData& data, const Json& prompts, const Json& lengths) {
    const Json& pattern = entry_of(prompts, data.prompts, set.name);
    const Json& n_predict = entry_of(lengths, data.lengths, set.name);
    if (!pattern.is_string()) fail(data.prompts.name + ": \"" + set.name + "\" is not text");
    if (!n_predict.is_number_integer() || n_predict.get<int64_t>() < 1) {
        fail(data.lengths.name + ": \"" + set.name + "\" is not a number of tokens");
    }
    const LongBenchData::File& file = data.files.at(set.name);
    const std::vector<JsonLine> lines = json_lines(file.content, file.name);
    if (lines.empty()) fail(file.name + " has no rows");
    for (const JsonLine& line : lines) {
        const int index = int(&line - lines.data());
        if (params_.limit > 0 && index >= params_.limit) break;
        Question question{.set = &set,
                          .index = index,
                          .message = fill_in(pattern.get<std::string>(), line.json, line.where),
                          .n_predict = n_predict.get<int>(),
                          .answers = texts_at(line, "answers"),
                          .all_classes = {},
                          .more = more_of(line, set)};
        if (set.metric == Metric::classification) question.all_classes = texts_at(line, "all_classes");
        questions_.push_back(std::move(question));
    }
}

Json LongBench::settings() const { return {{"data_hash", data_hash_}}; }

std::vector<SampleInfo> LongBench::samples() const {
    std::vector<SampleInfo> infos;
    for (const Question& question : questions_) {
        infos.push_back({.id = question.set->name + "/" + std::to_string(question.index),
                         .n_tokens = double(question.message.size()) / 4,
                         .n_predict = question.n_predict});
    }
    return infos;
}

Sample LongBench::make(size_t index) const {
    const Question& question = questions_[index];
    return {.id = question.set->name + "/" + std::to_string(question.index),
            .task = question.set->name,
            .index = question.index,
            .message = question.message,
            .chat = question.set->chat,
            .references = question.answers,
            .more = question.more,
            .n_predict = question.n_predict,
            .forbids_empty = true};
}

double LongBench::score(const Sample& sample, const std::string& prediction) const {
    std::vector<std::string> all_classes;
    if (sample.more.contains("all_classes")) all_classes = sample.more["all_classes"].get<std::vector<std::string>>();
    return longbench_score(find_longbench_set(sample.task), prediction, sample.references, all_classes);
}

std::vector<Table> longbench_tables(const std::vector<Row>& rows, bool by_length) {
    std::vector<Table> tables = {by_sets(rows, "")};
    const int n_set = int(tables[0].columns.size()) - (tables[0].columns.size() > 1 ? 1 : 0);
    if (n_set > 1) tables.push_back(by_groups(tables[0], n_set));
    if (!by_length) return tables;
    const char* parts[] = {"Under 4,000 words", "4,000 to 7,999 words", "8,000 words and more"};
    for (int part = 0; part < 3; ++part) {
        std::vector<Row> own;
        std::copy_if(rows.begin(), rows.end(), std::back_inserter(own),
                     [&](const Row& row) { return longbench_e_part(row.more.value("n_words", 0)) == part; });
        if (!own.empty()) tables.push_back(by_sets(own, parts[part]));
    }
    return tables;
}

}  // namespace fastkv::eval
