#include "eval/needle.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <set>
#include <sstream>

#include "eval/prompt.h"
#include "eval/random.h"
#include "eval/string_match.h"
#include "fastkv/error.h"
#include "text/format.h"
#include "text/json.h"

namespace fastkv::eval {

namespace {

// The sentence that this test has had since its beginning, and the words of the reference's frame (eval/needle in
// github.com/dongwonjo/FastKV, after github.com/gkamradt/LLMTest_NeedleInAHaystack): they must be the same for results
// to be comparable.
const std::string needle_start = "The best thing to do in San Francisco is";
const std::string needle_answer = "eat a sandwich and sit in Dolores Park on a sunny day.";
const std::string needle_text = "\n" + needle_start + " " + needle_answer + "\n";

constexpr int reference_reserve = 200;  // tokens that the reference leaves for its frame

std::string protocol_name(NeedleProtocol protocol) {
    switch (protocol) {
        case NeedleProtocol::chat: return "chat";
        case NeedleProtocol::reference: return "reference";
        case NeedleProtocol::reference_chat: return "reference-chat";
    }
    return "";
}

std::string cell_id(int length, int depth) {
    return "length_" + std::to_string(length) + "_depth_" + std::to_string(depth);
}

std::set<std::string> words_of(const std::string& text) {
    std::istringstream stream(lower(text));
    std::set<std::string> words;
    for (std::string word; stream >> word;) words.insert(word);
    return words;
}

// The text's first `n_tokens` tokens, the text repeated as often as that takes.
std::vector<Token> repeated_tokens(const Model& model, const std::string& text, int n_tokens) {
    std::string longer = text;
    std::vector<Token> tokens = model.tokenize(longer, false, false);
    while (int(tokens.size()) < n_tokens) {
        if (tokens.empty()) refuse("the haystack has no text");
        longer += longer;
        tokens = model.tokenize(longer, false, false);
    }
    tokens.resize(size_t(n_tokens));
    return tokens;
}

// All cells, a line each.
std::string cells_json(const std::vector<Row>& rows) {
    std::string cells;
    for (const Row& row : rows) {
        Json cell = {{"setting", row.setting}, {"length", row.length}, {"depth", row.depth}};
        if (row.failed()) {
            cell["error"] = row.error;
        } else {
            cell["score"] = row.score;
            cell["response"] = row.prediction;
        }
        cells.append(cells.empty() ? "[\n" : ",\n").append(text::json_text(cell));
    }
    return cells.empty() ? "[]\n" : cells + "\n]\n";
}

template <class T>
size_t index_in(const std::vector<T>& values, const T& value) {
    return size_t(std::find(values.begin(), values.end(), value) - values.begin());
}

// "heat-map-fastkv-retain-rate-0.2" of "fastkv --retain-rate 0.2".
std::string file_name(const std::string& name) {
    std::string file = "heat-map-";
    for (const char c : name) {
        const bool plain = std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_';
        if (plain)
            file += c;
        else if (file.back() != '-')
            file += '-';
    }
    return file;
}

}  // namespace

int needle_predict(NeedleProtocol protocol) { return protocol == NeedleProtocol::chat ? 64 : 30; }

std::vector<int> even_depths(int n) {
    std::vector<int> depths;
    for (int i = 0; i < n; ++i) depths.push_back(int(std::nearbyint(n > 1 ? 100.0 * i / (n - 1) : 0)));
    return depths;
}

std::vector<Token> insert_needle(std::vector<Token> context, const std::vector<Token>& needle, int budget, int depth,
                                 const std::function<bool(Token)>& is_full_stop) {
    const auto room = size_t(std::max(0, budget - int(needle.size())));
    if (context.size() > room) context.resize(room);
    size_t at = context.size();
    if (depth < 100) {
        at = size_t(double(context.size()) * (double(depth) / 100));
        while (at > 0 && !is_full_stop(context[at - 1])) --at;
    }
    context.insert(context.begin() + std::ptrdiff_t(at), needle.begin(), needle.end());
    return context;
}

double word_overlap(const std::string& response, const std::string& expected) {
    const std::set<std::string> said = words_of(response), wanted = words_of(expected);
    const auto n = std::count_if(wanted.begin(), wanted.end(), [&](auto& word) { return said.count(word) > 0; });
    return wanted.empty() ? 0 : double(n) / double(wanted.size());
}

std::vector<Table> needle_tables(const std::vector<Row>& rows) {
    std::set<int> lengths;
    for (const Row& row : rows) lengths.insert(row.length);
    std::vector<std::string> columns;
    for (const int length : lengths) columns.push_back(std::to_string(length));
    return {table_of(
        rows, "", [](const Row& row) { return std::to_string(row.length); }, columns)};
}

plot::HeatMap needle_heat_map(const std::vector<Row>& rows, const std::string& setting, const std::string& name) {
    plot::HeatMap map;
    std::set<int> lengths, depths;
    std::vector<double> scores;
    for (const Row& row : rows) {
        if (row.setting != setting) continue;
        lengths.insert(row.length);
        depths.insert(int(row.depth));
        if (!row.failed()) scores.push_back(row.score);
    }
    map.lengths.assign(lengths.begin(), lengths.end());
    map.depths.assign(depths.begin(), depths.end());
    map.scores.assign(depths.size(), std::vector<std::optional<double>>(lengths.size()));
    for (const Row& row : rows) {
        if (row.setting != setting || row.failed()) continue;
        map.scores[index_in(map.depths, int(row.depth))][index_in(map.lengths, row.length)] = row.score;
    }
    map.title = name + (scores.empty() ? ": no answers" : text::format(": mean %.3f", mean_of(scores).mean));
    map.note = setting;
    return map;
}

Needle::Needle(Model model, NeedleParams params, const std::string& haystack)
    : model_(std::move(model)), params_(std::move(params)), haystack_hash_(fnv1a(haystack)) {
    const int longest = *std::max_element(params_.lengths.begin(), params_.lengths.end());
    haystack_ = repeated_tokens(model_, haystack, longest);
    // Lengths take turns, so that a run that is cut off has some of each.
    for (const int depth : params_.depths) {
        for (const int length : params_.lengths) cells_.emplace_back(length, depth);
    }
    if (params_.limit > 0 && params_.limit < int(cells_.size())) cells_.resize(size_t(params_.limit));
    for (const int length : params_.lengths) budget_of(length);  // refuses those that are too short
}

Json Needle::settings() const {
    return {{"protocol", protocol_name(params_.protocol)}, {"haystack_hash", hex_text(haystack_hash_)}};
}

std::vector<SampleInfo> Needle::samples() const {
    std::vector<SampleInfo> samples;
    for (const auto& [length, depth] : cells_) {
        samples.push_back({cell_id(length, depth), double(length), needle_predict(params_.protocol)});
    }
    return samples;
}

std::string Needle::framed(const std::string& text) const {
    if (params_.protocol == NeedleProtocol::chat) {
        return "The following text hides a sentence about San Francisco. Find it and remember it.\n\n" + text +
               "\n\nWhat is the best thing to do in San Francisco, according to the text? " + needle_start;
    }
    return "<|im_start|> This is a very long story book: <book> " + text +
           " </book>.\n Based on the content of the book, Question: " + needle_start + ": \nAnswer:";
}

int Needle::budget_of(int length) const {
    const int frame = params_.protocol == NeedleProtocol::chat ? int(prompt_tokens(model_, framed(""), true).size())
                                                               : reference_reserve;
    const auto n_needle = int(model_.tokenize(needle_text, false, false).size());
    if (length - frame < n_needle) refuse("a length of " + std::to_string(length) + " has no room for the needle");
    return length - frame;
}

std::string Needle::text_of(int length, int depth) const {
    const std::vector<Token> needle = model_.tokenize(needle_text, false, false);
    const std::vector<Token> context(haystack_.begin(), haystack_.begin() + length);
    const auto is_full_stop = [&](Token token) { return model_.piece(token) == "."; };
    return whole_characters(model_.detokenize(insert_needle(context, needle, budget_of(length), depth, is_full_stop)));
}

Sample Needle::make(size_t index) const {
    const auto [length, depth] = cells_.at(index);
    Sample sample;
    sample.id = cell_id(length, depth);
    sample.task = "needle";
    sample.index = int(index);
    sample.length = length;
    sample.depth = depth;
    sample.message = framed(text_of(length, depth));
    sample.chat = params_.protocol != NeedleProtocol::reference;
    sample.references = {needle_answer};
    sample.n_predict = needle_predict(params_.protocol);
    sample.ends_at_newline = params_.protocol != NeedleProtocol::chat;
    return sample;
}

double Needle::score(const Sample&, const std::string& prediction) const {
    return word_overlap(prediction, needle_answer);
}

std::vector<std::pair<std::string, std::string>> Needle::files(const std::vector<Row>& rows) const {
    std::vector<std::pair<std::string, std::string>> files = {{"cells.json", cells_json(rows)}};
    for (const auto& [setting, name] : setting_names(rows)) {
        const plot::HeatMap map = needle_heat_map(rows, setting, name);
        files.emplace_back(file_name(name) + ".svg", draw_heat_map(map, plot::Target::svg));
        if (plot::can_draw_png()) files.emplace_back(file_name(name) + ".png", draw_heat_map(map, plot::Target::png));
    }
    return files;
}

}  // namespace fastkv::eval
