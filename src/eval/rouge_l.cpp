#include "eval/rouge_l.h"

#include <algorithm>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "eval/python_text.h"

namespace fastkv::eval {

namespace {

/// Of Python's 1,000 frames, LongBench's script and the package's functions take nine.
constexpr int max_steps = 991;

using Sentence = std::vector<int>;  // numbers of its words

/// Gives equal words equal numbers.
class Words {
  public:
    int number(const std::u32string& word) { return numbers_.try_emplace(word, int(numbers_.size())).first->second; }

  private:
    std::unordered_map<std::u32string, int> numbers_;
};

std::vector<Sentence> sentences_of(std::string_view text, Words& words) {
    std::vector<Sentence> sentences;
    for (const std::u32string& piece : python::split(python::code_points(text), U'.')) {
        if (piece.empty()) continue;
        Sentence& sentence = sentences.emplace_back();
        for (const std::u32string& word : python::split(piece)) sentence.push_back(words.number(word));
        if (sentence.empty()) sentence.push_back(words.number(U""));  // " ".join([]).split(" ") == [""]
    }
    return sentences;
}

size_t distinct_words(const std::vector<Sentence>& sentences) {
    std::unordered_set<int> words;
    for (const Sentence& sentence : sentences) words.insert(sentence.begin(), sentence.end());
    return words.size();
}

/// Length of the longest common subsequence of every pair of beginnings: [x.size() + 1][y.size() + 1].
std::vector<std::vector<int>> lcs_table(const Sentence& x, const Sentence& y) {
    std::vector<std::vector<int>> table(x.size() + 1, std::vector<int>(y.size() + 1, 0));
    for (size_t i = 1; i <= x.size(); ++i) {
        for (size_t j = 1; j <= y.size(); ++j) {
            table[i][j] = x[i - 1] == y[j - 1] ? table[i - 1][j - 1] + 1 : std::max(table[i - 1][j], table[i][j - 1]);
        }
    }
    return table;
}

/// The words of the subsequence that the package finds, from the end: of equally good ways it shortens y first. None
/// where it would go too deep.
std::optional<Sentence> longest_common(const Sentence& x, const Sentence& y) {
    const auto table = lcs_table(x, y);
    Sentence common;
    size_t i = x.size(), j = y.size();
    for (int steps = 1; i > 0 && j > 0; ++steps) {
        if (steps >= max_steps) return std::nullopt;
        if (x[i - 1] == y[j - 1]) {
            common.push_back(x[i - 1]);
            --i, --j;
        } else if (table[i - 1][j] > table[i][j - 1]) {
            --i;
        } else {
            --j;
        }
    }
    return common;
}

}  // namespace

double rouge_l(std::string_view prediction, std::string_view reference) {
    Words words;
    const auto predicted = sentences_of(prediction, words), wanted = sentences_of(reference, words);
    if (predicted.empty() || wanted.empty()) return 0;
    std::unordered_set<int> common;
    for (const Sentence& x : wanted) {
        for (const Sentence& y : predicted) {
            const auto found = longest_common(x, y);
            if (!found) return 0;
            common.insert(found->begin(), found->end());
        }
    }
    const double recall = double(common.size()) / double(distinct_words(wanted));
    const double precision = double(common.size()) / double(distinct_words(predicted));
    return 2.0 * ((precision * recall) / (precision + recall + 1e-8));
}

}  // namespace fastkv::eval
