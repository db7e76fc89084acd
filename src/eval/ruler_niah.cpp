// RULER's needles in haystacks: niah_single_*, niah_multikey_*, niah_multivalue, niah_multiquery.
#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "eval/random_values.h"
#include "eval/ruler_prompts.h"
#include "eval/ruler_words.h"

namespace fastkv::eval {

namespace {

const std::string noise = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

constexpr int n_depths = 40;  // needles stand at some of 40 even depths

std::string name_of(ValueKind kind) { return kind == ValueKind::numbers ? "number" : "uuid"; }

std::string fact(ValueKind kind, const std::string& key, const std::string& value) {
    return "One of the special magic " + name_of(kind) + "s for " + key + " is: " + value + ".";
}

// Keys and values at random, no key twice: RULER may repeat one, and then the question has two answers.
class Facts {
  public:
    Facts(const NiahParams& params, Random random) : params_(params), random_(random) {}

    std::string key() {
        std::string key;
        do {
            key = params_.key == KeyKind::uuids ? random_uuid(random_) : random_word_pair(random_);
        } while (!used_.insert(key).second);
        return key;
    }
    std::string value() { return params_.value == ValueKind::uuids ? random_uuid(random_) : random_number(random_); }

  private:
    const NiahParams& params_;
    Random random_;
    std::set<std::string> used_;
};

struct Hidden {
    std::vector<std::string> keys;
    std::vector<std::vector<std::string>> values;  // [keys][n_values]
    std::vector<std::string> needles;              // in random order
};

Hidden hide(const NiahParams& params, Facts& facts, Random& random) {
    Hidden hidden;
    for (int i = 0; i < std::max(params.n_keys, params.n_queries); ++i) {
        hidden.keys.push_back(facts.key());
        hidden.values.emplace_back();
        for (int j = 0; j < params.n_values; ++j) {
            hidden.values.back().push_back(facts.value());
            hidden.needles.push_back(fact(params.value, hidden.keys.back(), hidden.values.back().back()));
        }
    }
    shuffle(hidden.needles, random);
    return hidden;
}

bool ends_sentence(std::string_view word) {
    while (word.ends_with('"') || word.ends_with(')') || word.ends_with('\'')) word.remove_suffix(1);
    return word.ends_with('.') || word.ends_with('!') || word.ends_with('?');
}

// The first `n_words` words, the essays repeated where they are too short, as sentences.
std::vector<std::string> sentences_of(const Essays& essays, int n_words) {
    std::vector<std::string> sentences;
    bool begins = true;
    for (int i = 0; i < n_words; ++i) {
        const std::string& word = essays.words[size_t(i) % essays.words.size()];
        if (begins) sentences.emplace_back();
        sentences.back().append(begins ? "" : " ").append(word);
        begins = ends_sentence(word);
    }
    return sentences;
}

std::string essay_with(const std::vector<std::string>& needles, const std::vector<int>& depths, const Essays& essays,
                       int n_words) {
    const std::vector<std::string> sentences = sentences_of(essays, n_words);
    std::vector<std::string> parts;
    size_t from = 0;
    for (size_t i = 0; i < needles.size(); ++i) {
        const double depth = std::nearbyint(100.0 * depths[i] / (n_depths - 1));
        const auto to = size_t(double(sentences.size()) * (depth / 100));
        parts.insert(parts.end(), sentences.begin() + std::ptrdiff_t(from), sentences.begin() + std::ptrdiff_t(to));
        parts.push_back(needles[i]);
        from = to;
    }
    parts.insert(parts.end(), sentences.begin() + std::ptrdiff_t(from), sentences.end());
    return join(parts, " ");
}

std::string question_start(const NiahParams& params) {
    const std::string name = name_of(params.value);
    if (params.n_queries * params.n_values == 1) {
        return "A special magic " + name + " is hidden within the following text. Make sure to memorize it. I will " +
               "quiz you about the " + name + " afterwards.\n";
    }
    return "Some special magic " + name + "s are hidden within the following text. Make sure to memorize it. I will " +
           "quiz you about the " + name + "s afterwards.\n";
}

std::string question_end(const NiahParams& params, const std::vector<std::string>& keys) {
    std::string query = keys[0];
    if (keys.size() > 1) query = join({keys.begin(), keys.end() - 1}, ", ") + ", and " + keys.back();
    const bool one = params.n_queries * params.n_values == 1;
    const std::string what = "special magic " + name_of(params.value) + (one ? "" : "s");
    const std::string rest = " for " + query + " mentioned in the provided text";
    return "\nWhat " + std::string(one ? "is the " : "are all the ") + what + rest + "? The " + what + rest +
           (one ? " is" : " are");
}

// The lines of a haystack that is not an essay, with the needles at random places between them.
std::string lines_with(const std::vector<std::string>& needles, std::vector<std::string> lines, Random random) {
    std::vector<int> places = sample_numbers(int(needles.size()), int(lines.size()), random);
    std::sort(places.rbegin(), places.rend());
    for (size_t i = 0; i < needles.size(); ++i) lines.insert(lines.begin() + places[i], needles[i]);
    return join(lines, "\n");
}

}  // namespace

RulerPrompt make_niah(const NiahParams& params, const Essays& essays, const Fit& fit, Random random) {
    Facts facts(params, Random(random.next()));
    const Hidden hidden = hide(params, facts, random);
    RulerPrompt prompt;
    std::vector<std::string> asked;
    for (const int i : sample_numbers(params.n_queries, int(hidden.keys.size()), random)) {
        asked.push_back(hidden.keys[size_t(i)]);
        for (const std::string& value : hidden.values[size_t(i)]) prompt.outputs.push_back(value);
    }
    std::vector<int> depths = sample_numbers(int(hidden.needles.size()), n_depths, random);
    std::sort(depths.begin(), depths.end());
    const Random places(random.next());
    std::vector<std::string> lines;  // as many as were needed so far
    const auto build = [&](int size) {
        const std::string start = question_start(params), end = question_end(params, asked);
        if (params.haystack == Haystack::essay) return start + essay_with(hidden.needles, depths, essays, size) + end;
        while (int(lines.size()) < size) {
            // Keys first: the order in which arguments are evaluated is anybody's choice.
            const bool is_noise = params.haystack == Haystack::noise;
            const std::string key = is_noise ? "" : facts.key();
            lines.push_back(is_noise ? noise : fact(params.value, key, facts.value()));
        }
        return start + lines_with(hidden.needles, {lines.begin(), lines.begin() + size}, places) + end;
    };
    prompt.input = build(fit.largest(int(hidden.needles.size()), fit.n_tokens, build));
    return prompt;
}

}  // namespace fastkv::eval
