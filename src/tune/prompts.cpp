#include "tune/prompts.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <utility>

#include "eval/random.h"
#include "eval/random_values.h"
#include "fastkv/error.h"

namespace fastkv::tune {

const std::vector<std::pair<std::string, Task>>& task_names() {
    static const std::vector<std::pair<std::string, Task>> names = {{"number", Task::number},
                                                                    {"keys", Task::keys},
                                                                    {"values", Task::values},
                                                                    {"lines", Task::lines},
                                                                    {"uuids", Task::uuids}};
    return names;
}

std::string RetrievalPrompt::hash() const {
    uint64_t hash = eval::fnv1a(message);
    for (const std::string& answer : answers) hash = eval::fnv1a(answer, eval::fnv1a(std::string_view("\0", 1), hash));
    hash = eval::fnv1a(std::to_string(n_predict), hash);
    return eval::hex_text(hash);
}

// ---- what is hidden ------------------------------------------------------------------------------------------------

namespace {

constexpr std::array adjectives = {"amber", "brisk", "calm",   "dusty", "eager",  "faint",  "gentle", "hollow",
                                   "ivory", "jolly", "keen",   "lucky", "mellow", "narrow", "olive",  "proud",
                                   "quiet", "rusty", "silent", "tidy",  "upper",  "vivid",  "wooden", "young"};
constexpr std::array nouns = {"anchor", "barrel", "candle", "desert", "engine", "falcon", "garden", "harbor",
                              "island", "jacket", "kettle", "ladder", "mirror", "needle", "orchid", "pencil",
                              "quarry", "ribbon", "saddle", "temple", "urchin", "valley", "walnut", "zipper"};

std::string random_name(eval::Random& random) {
    const std::string adjective = adjectives[size_t(random.below(adjectives.size()))];
    return adjective + "-" + nouns[size_t(random.below(nouns.size()))];
}

// Names, none of them twice.
class Names {
  public:
    Names(bool uuids, eval::Random random) : uuids_(uuids), random_(random) {}

    std::string next() {
        std::string name;
        do {
            name = uuids_ ? eval::random_uuid(random_) : random_name(random_);
            // More sentences than pairs of words: pairs get a number.
            if (!uuids_ && used_.size() > adjectives.size() * nouns.size() / 2) {
                name.append("-").append(std::to_string(random_.below(1000)));
            }
        } while (!used_.insert(name).second);
        return name;
    }

  private:
    bool uuids_;
    eval::Random random_;
    std::set<std::string> used_;
};

std::string fact(const std::string& what, const std::string& name, const std::string& value) {
    return "The secret " + what + " for " + name + " is " + value + ". ";
}

std::string message_of(const std::string& what, const std::string& text, const std::string& name, bool several) {
    const std::string asked = "the secret " + what + (several ? "s" : "") + " for " + name;
    std::string cue = asked;
    cue[0] = 'T';
    return "The following text mentions secret " + what + "s. Remember them: you will be asked afterwards.\n\n" + text +
           "\n\nWhat " + (several ? "are " : "is ") + asked + " that the text mentions? " + cue +
           (several ? " are" : " is");
}

struct Needle {
    double depth;
    std::string sentence;
};

// Puts each needle between two sentences, where its share of the tokens has passed.
std::string weave(const std::vector<eval::Sentence>& passage, std::vector<Needle> needles) {
    std::stable_sort(needles.begin(), needles.end(), [](auto& a, auto& b) { return a.depth < b.depth; });
    double total = 0, passed = 0;
    for (const eval::Sentence& sentence : passage) total += sentence.n_tokens;
    std::string text;
    auto needle = needles.begin();
    for (const eval::Sentence& sentence : passage) {
        // Half of the sentence: the nearer of its two ends.
        for (; needle != needles.end() && needle->depth * total < passed + 0.5 * sentence.n_tokens; ++needle) {
            text += needle->sentence;
        }
        text += sentence.text;
        passed += sentence.n_tokens;
    }
    for (; needle != needles.end(); ++needle) text += needle->sentence;
    return text;
}

// Sentences of the kind that is asked for, as many as `n_tokens` hold.
std::vector<eval::Sentence> facts(const std::string& what, int n_tokens, Names names, const eval::CountTokens& count,
                                  eval::Random random) {
    std::vector<eval::Sentence> sentences;
    while (true) {
        const std::string value = what == "code" ? eval::random_uuid(random) : eval::random_number(random);
        eval::Sentence sentence{fact(what, names.next(), value), 0};
        sentence.text.back() = '\n';
        sentence.n_tokens = count(sentence.text);
        n_tokens -= sentence.n_tokens;
        if (n_tokens < 0) return sentences;
        sentences.push_back(std::move(sentence));
    }
}

// Multiples of the golden ratio fill [0, 1) evenly however many there are.
double spread_depth(int index, uint64_t seed) {
    const double shift = eval::Random(seed).unit();
    const double depth = shift + 0.6180339887498949 * index;
    return depth - std::floor(depth);
}

}  // namespace

PromptMaker::PromptMaker(eval::SourceText text, eval::CountTokens count, eval::CountTokens count_prompt, uint64_t seed)
    : text_(std::move(text)), count_(std::move(count)), count_prompt_(std::move(count_prompt)), seed_(seed) {}

RetrievalPrompt PromptMaker::make(Task task, int length, int index) const {
    const auto named =
        std::find_if(task_names().begin(), task_names().end(), [&](auto& n) { return n.second == task; });
    RetrievalPrompt prompt{.kind = named->first, .index = index, .length = length, .answers = {}};
    const uint64_t series = eval::fnv1a(prompt.kind + "/" + std::to_string(length) + "/" + std::to_string(seed_));
    prompt.depth = spread_depth(index, series);
    eval::Random random(series + uint64_t(index) * 0x632BE59BD9B4E019u);
    random.next();

    const bool codes = task == Task::uuids, several = task == Task::values;
    const std::string what = codes ? "code" : "number";
    Names names(codes, eval::Random(random.next()));
    const std::string name = names.next();
    const auto hide = [&](double depth, const std::string& of, bool asked) {
        const std::string value = codes ? eval::random_uuid(random) : eval::random_number(random);
        if (asked) prompt.answers.push_back(value);
        return Needle{depth, fact(what, of, value)};
    };
    std::vector<Needle> needles = {hide(prompt.depth, name, true)};
    for (int i = 1; i < 4 && task == Task::keys; ++i) needles.push_back(hide(random.unit(), names.next(), false));
    for (int i = 1; i < 4 && several; ++i) needles.push_back(hide(random.unit(), name, true));
    // Models like to repeat the question; nothing is generated past a right answer.
    prompt.n_predict = codes || several ? 96 : 40;

    const int frame = count_prompt_(message_of(what, weave({}, needles), name, several));
    if (frame >= length) {
        refuse("-p " + std::to_string(length) + " is too short: the question alone takes " + std::to_string(frame) +
               " tokens");
    }
    const bool only_facts = task == Task::lines || codes;
    const uint64_t start = random.next();
    const auto with = [&](int n_tokens) {
        const auto passage = only_facts ? facts(what, n_tokens, names, count_, random) : text_.passage(start, n_tokens);
        return message_of(what, weave(passage, needles), name, several);
    };
    prompt.message = with(length - frame);
    // Sentences have fewer tokens together than one by one: the rest is filled.
    const int missing = length - count_prompt_(prompt.message);
    if (missing > 0) prompt.message = with(length - frame + missing);
    return prompt;
}

}  // namespace fastkv::tune
