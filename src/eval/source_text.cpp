#include "eval/source_text.h"

#include <array>

#include "eval/random.h"
#include "fastkv/error.h"

namespace fastkv::eval {

namespace {

constexpr size_t longest_sentence = 600;  // bytes

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }
bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

bool ends_sentence(std::string_view text, size_t at) {
    const char c = text[at];
    const bool stops = c == '.' || c == '!' || c == '?';
    if (at + 1 >= text.size()) return true;
    return (stops && is_space(text[at + 1])) || (c == '\n' && text[at + 1] == '\n');
}

// Bytes of the sentence at the front, with the white space that follows; a long one is cut at a space.
size_t sentence_length(std::string_view text) {
    size_t end = 0;
    while (end < text.size() && end < longest_sentence && !ends_sentence(text, end)) ++end;
    end = end < text.size() ? end + 1 : end;
    if (end > longest_sentence) {
        const size_t space = text.substr(0, longest_sentence).find_last_of(" \n");
        if (space != std::string_view::npos && space > 0) end = space;
        while (end < text.size() && is_continuation(text[end])) ++end;
    }
    while (end < text.size() && is_space(text[end])) ++end;
    return end;
}

}  // namespace

SourceText::SourceText(std::string_view text, const CountTokens& count) {
    while (!text.empty()) {
        const size_t length = sentence_length(text);
        Sentence sentence{std::string(text.substr(0, length)), 0};
        text.remove_prefix(length);
        if (!is_space(sentence.text.back())) sentence.text += ' ';
        sentence.n_tokens = count(sentence.text);
        if (sentence.n_tokens > 0) sentences_.push_back(std::move(sentence));
    }
    if (sentences_.empty()) refuse("the text that prompts are cut from is empty");
}

std::vector<Sentence> SourceText::passage(uint64_t start, int n_tokens) const {
    std::vector<Sentence> passage;
    for (uint64_t at = start; n_tokens > 0; ++at) {
        const Sentence& sentence = sentences_[size_t(at % sentences_.size())];
        if (sentence.n_tokens > n_tokens) break;
        n_tokens -= sentence.n_tokens;
        passage.push_back(sentence);
    }
    return passage;
}

std::string whole_characters(std::string_view text) {
    while (!text.empty() && is_continuation(text.front())) text.remove_prefix(1);
    size_t last = text.size();
    while (last > 0 && is_continuation(text[last - 1])) --last;
    if (last == 0) return std::string(text);
    const auto lead = static_cast<unsigned char>(text[last - 1]);
    const size_t wanted = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (text.size() - (last - 1) < wanted) text = text.substr(0, last - 1);
    return std::string(text);
}

// ---- filler --------------------------------------------------------------------------------------------------------

namespace {

constexpr std::array subjects = {"The baker",         "A tired clerk",   "My neighbour", "The old captain",
                                 "A young doctor",    "The gardener",    "Her brother",  "The night guard",
                                 "A travelling poet", "The teacher",     "Our landlord", "The ferryman",
                                 "A retired judge",   "The piano tuner", "The mayor"};
constexpr std::array verbs = {"carried",  "forgot",   "painted", "repaired", "borrowed",   "described", "hid",
                              "polished", "measured", "sold",    "followed", "remembered", "drew",      "lost"};
constexpr std::array objects = {"a wooden chair",  "the brass lamp",  "two letters",     "a basket of pears",
                                "the blue door",   "an old map",      "a broken clock",  "the long rope",
                                "some warm bread", "a heavy coat",    "the garden gate", "a silver spoon",
                                "her umbrella",    "the town's flag", "a book of songs"};
constexpr std::array places = {"near the river",      "behind the station", "in the market hall", "under the bridge",
                               "at the edge of town", "beside the chapel",  "on the north road",  "in a quiet kitchen",
                               "by the harbour wall", "above the workshop", "in the school yard", "at the crossing"};
constexpr std::array times = {"before sunrise", "on a rainy evening", "after the fair",        "during the long winter",
                              "at noon",        "last spring",        "while it snowed",       "when the bells rang",
                              "one Sunday",     "in early autumn",    "as the lamps were lit", "without a word"};
constexpr std::array links = {"and nobody asked why",       "because the wind had turned", "but the dog stayed behind",
                              "so the others waited",       "although it was late",        "and then walked home",
                              "which pleased the children", "as everyone had expected"};

template <size_t n>
const char* pick(const std::array<const char*, n>& words, Random& random) {
    return words[size_t(random.below(n))];
}

}  // namespace

std::string filler_text(uint64_t seed, int n_sentences) {
    Random random(seed);
    std::string text;
    for (int i = 0; i < n_sentences; ++i) {
        text.append(pick(subjects, random)).append(" ").append(pick(verbs, random));
        text.append(" ").append(pick(objects, random));
        if (random.below(4) > 0) text.append(" ").append(pick(places, random));
        if (random.below(2) > 0) text.append(" ").append(pick(times, random));
        if (random.below(3) == 0) text.append(", ").append(pick(links, random));
        text += random.below(7) == 0 ? ".\n\n" : ". ";
    }
    return text;
}

}  // namespace fastkv::eval
