// RULER's aggregation: common words in a list (cwe), frequent words in a text (fwe).
#include <algorithm>
#include <cmath>
#include <set>

#include "eval/ruler_prompts.h"

namespace fastkv::eval {

namespace {

// ---- cwe ----

constexpr int n_common = 10;

// How often words occur. Short prompts have fewer of each.
struct Counts {
    int common, uncommon;
};

std::string numbered(const std::vector<std::string>& words) {
    std::vector<std::string> items;
    for (size_t i = 0; i < words.size(); ++i) items.push_back(std::to_string(i + 1) + ". " + words[i]);
    return join(items, " ");
}

std::string cwe_task(const std::vector<std::string>& words, Counts counts, Random random) {
    std::vector<std::string> list;
    for (size_t i = 0; i < words.size(); ++i) {
        const int n = i < n_common ? counts.common : counts.uncommon;
        list.insert(list.end(), size_t(n), words[i]);
    }
    shuffle(list, random);
    return "Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones "
           "that appear most often.\n" +
           numbered(list) +
           "\nQuestion: What are the 10 most common words in the above list? Answer: The top 10 words that appear most "
           "often in the list are:";
}

// ---- fwe ----

constexpr double alpha = 2;                     // frequencies fall as rank^-alpha
constexpr double zeta_of_alpha = 1.6449340668;  // pi^2 / 6
constexpr int coded_length = 6;
constexpr int n_asked = 3;

// The first stands for noise.
std::vector<std::string> coded_words(int n, Random& random) {
    std::vector<std::string> words = {"..."};
    std::set<std::string> used;
    while (int(words.size()) < n) {
        std::string word;
        for (int i = 0; i < coded_length; ++i) word += char('a' + random.below(26));
        if (used.insert(word).second) words.push_back(word);
    }
    return words;
}

std::string fwe_task(const std::vector<std::string>& words, int n_words, Random random) {
    std::vector<std::string> text;
    for (size_t i = 0; i < words.size(); ++i) {
        const double n = n_words * std::pow(double(i + 1), -alpha) / zeta_of_alpha;
        text.insert(text.end(), size_t(n), words[i]);
    }
    shuffle(text, random);
    return "Read the following coded text and track the frequency of each coded word. Find the three most frequently "
           "appeared coded words. " +
           join(text, " ") +
           "\nQuestion: Do not provide any explanation. Please ignore the dots '....'. What are the three most "
           "frequently appeared words in the above coded text? Answer: According to the coded text above, the three "
           "most frequently appeared words are:";
}

}  // namespace

RulerPrompt make_cwe(const Essays& essays, int length, const Fit& fit, Random random) {
    const bool is_short = length < 4096;
    const int n_shown = is_short ? 20 : 40;
    std::vector<std::string> words = essays.common;
    shuffle(words, random);
    const std::vector<std::string> shown(words.begin(), words.begin() + n_shown);
    const std::vector<std::string> shown_common(shown.begin(), shown.begin() + n_common);
    const std::string example =
        cwe_task(shown, is_short ? Counts{3, 1} : Counts{10, 3}, Random(random.next())) + numbered(shown_common) + "\n";
    shuffle(words, random);
    const Random order(random.next());
    const auto build = [&](int n_words) {
        return example +
               cwe_task({words.begin(), words.begin() + n_words}, is_short ? Counts{6, 1} : Counts{30, 3}, order);
    };
    const int n_words = fit.largest(n_common + 1, int(words.size()), build);
    return {build(n_words), {words.begin(), words.begin() + n_common}};
}

RulerPrompt make_fwe(int length, const Fit& fit, Random random) {
    const std::vector<std::string> words = coded_words(std::max(length / 50, n_asked + 1), random);
    const Random order(random.next());
    const auto build = [&](int n_words) { return fwe_task(words, n_words, order); };
    // So many that the three most frequent ones and the next differ in number.
    const int n_words = fit.largest(60, fit.n_tokens, build);
    return {build(n_words), {words.begin() + 1, words.begin() + 1 + n_asked}};
}

}  // namespace fastkv::eval
