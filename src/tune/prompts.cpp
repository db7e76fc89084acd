#include "tune/prompts.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <set>
#include <utility>

#include "fastkv/error.h"
#include "tune/random.h"

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
    uint64_t hash = fnv1a(message);
    for (const std::string& answer : answers) hash = fnv1a(answer, fnv1a(std::string_view("\0", 1), hash));
    hash = fnv1a(std::to_string(n_predict), hash);
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash));
    return text;
}

// ---- what is hidden ------------------------------------------------------------------------------------------------

namespace {

constexpr std::array adjectives = {"amber", "brisk", "calm",   "dusty", "eager",  "faint",  "gentle", "hollow",
                                   "ivory", "jolly", "keen",   "lucky", "mellow", "narrow", "olive",  "proud",
                                   "quiet", "rusty", "silent", "tidy",  "upper",  "vivid",  "wooden", "young"};
constexpr std::array nouns = {"anchor", "barrel", "candle", "desert", "engine", "falcon", "garden", "harbor",
                              "island", "jacket", "kettle", "ladder", "mirror", "needle", "orchid", "pencil",
                              "quarry", "ribbon", "saddle", "temple", "urchin", "valley", "walnut", "zipper"};

std::string random_name(Random& random) {
    const std::string adjective = adjectives[size_t(random.below(adjectives.size()))];
    return adjective + "-" + nouns[size_t(random.below(nouns.size()))];
}

std::string random_number(Random& random) { return std::to_string(1000000 + random.below(9000000)); }

// The form of a random UUID (RFC 4122, version 4).
std::string random_uuid(Random& random) {
    const uint64_t high = (random.next() & ~uint64_t{0xF000}) | 0x4000;
    const uint64_t low = (random.next() >> 2) | (uint64_t{1} << 63);
    char text[37];
    std::snprintf(text, sizeof text, "%08x-%04x-%04x-%04x-%012llx", unsigned(high >> 32), unsigned(high >> 16) & 0xFFFF,
                  unsigned(high) & 0xFFFF, unsigned(low >> 48), static_cast<unsigned long long>(low & 0xFFFFFFFFFFFFu));
    return text;
}

// Names, none of them twice.
class Names {
  public:
    Names(bool uuids, Random& random) : uuids_(uuids), random_(random) {}

    std::string next() {
        std::string name;
        do {
            name = uuids_ ? random_uuid(random_) : random_name(random_);
            // More sentences than pairs of words: pairs get a number.
            if (!uuids_ && used_.size() > adjectives.size() * nouns.size() / 2) {
                name.append("-").append(std::to_string(random_.below(1000)));
            }
        } while (!used_.insert(name).second);
        return name;
    }

  private:
    bool uuids_;
    Random& random_;
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
std::string weave(const std::vector<Sentence>& passage, std::vector<Needle> needles) {
    std::stable_sort(needles.begin(), needles.end(), [](auto& a, auto& b) { return a.depth < b.depth; });
    double total = 0, passed = 0;
    for (const Sentence& sentence : passage) total += sentence.n_tokens;
    std::string text;
    auto needle = needles.begin();
    for (const Sentence& sentence : passage) {
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
std::vector<Sentence> facts(const std::string& what, int n_tokens, Names& names, const CountTokens& count,
                            Random& random) {
    std::vector<Sentence> sentences;
    while (true) {
        const std::string value = what == "code" ? random_uuid(random) : random_number(random);
        Sentence sentence{fact(what, names.next(), value), 0};
        sentence.text.back() = '\n';
        sentence.n_tokens = count(sentence.text);
        n_tokens -= sentence.n_tokens;
        if (n_tokens < 0) return sentences;
        sentences.push_back(std::move(sentence));
    }
}

// Multiples of the golden ratio fill [0, 1) evenly however many there are.
double spread_depth(int index, uint64_t seed) {
    const double shift = Random(seed).unit();
    const double depth = shift + 0.6180339887498949 * index;
    return depth - std::floor(depth);
}

}  // namespace

PromptMaker::PromptMaker(SourceText text, CountTokens count, CountTokens count_prompt, uint64_t seed)
    : text_(std::move(text)), count_(std::move(count)), count_prompt_(std::move(count_prompt)), seed_(seed) {}

RetrievalPrompt PromptMaker::make(Task task, int length, int index) const {
    const auto named =
        std::find_if(task_names().begin(), task_names().end(), [&](auto& n) { return n.second == task; });
    RetrievalPrompt prompt{.kind = named->first, .index = index, .length = length, .answers = {}};
    const uint64_t series = fnv1a(prompt.kind + "/" + std::to_string(length) + "/" + std::to_string(seed_));
    prompt.depth = spread_depth(index, series);
    Random random(series + uint64_t(index) * 0x632BE59BD9B4E019u);
    random.next();

    const bool codes = task == Task::uuids, several = task == Task::values;
    const std::string what = codes ? "code" : "number";
    Names names(codes, random);
    const std::string name = names.next();
    const auto hide = [&](double depth, const std::string& of, bool asked) {
        const std::string value = codes ? random_uuid(random) : random_number(random);
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
    const auto passage =
        only_facts ? facts(what, length - frame, names, count_, random) : text_.passage(random.next(), length - frame);
    prompt.message = message_of(what, weave(passage, needles), name, several);
    return prompt;
}

namespace {

std::string lower(std::string text) {
    for (char& c : text) c = c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c;
    return text;
}

}  // namespace

double score_answer(const std::string& text, const std::vector<std::string>& answers) {
    if (answers.empty()) return 0;
    const std::string said = lower(text);
    const auto occurs = [&](const std::string& answer) { return said.find(lower(answer)) != std::string::npos; };
    return double(std::count_if(answers.begin(), answers.end(), occurs)) / double(answers.size());
}

}  // namespace fastkv::tune
