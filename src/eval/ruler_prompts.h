// The tasks of RULER (Hsieh et al. 2024, arXiv 2404.06654), made from scratch for any length and tokenizer.
// The wording of prompts, the counts and the way in which they grow are facts taken from github.com/NVIDIA/RULER
// (scripts/data/synthetic, Apache-2.0), because results are comparable only where these are the same.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "eval/random.h"
#include "eval/ruler_fit.h"
#include "text/words.h"

namespace fastkv::eval {

/// Text and answers, as a row of RULER's files.
struct RulerPrompt {
    std::string input;  ///< ends with the beginning of the answer
    std::vector<std::string> outputs;
};

/// The texts of the niah tasks, cut into words.
struct Essays {
    std::vector<std::string> words;   ///< all of them, in order
    std::vector<std::string> common;  ///< distinct plain words, in order of the alphabet: those of cwe's lists
};

Essays essays_of(std::string_view text);

enum class Haystack { noise, essay, needles };
enum class KeyKind { words, uuids };
enum class ValueKind { numbers, uuids };

struct NiahParams {
    Haystack haystack = Haystack::noise;
    KeyKind key = KeyKind::words;
    ValueKind value = ValueKind::numbers;
    int n_keys = 1, n_values = 1, n_queries = 1;
};

/// Values hidden in a text, and the question for those of one or more keys.
RulerPrompt make_niah(const NiahParams& params, const Essays& essays, const Fit& fit, Random random);

/// Variable tracking: a chain of assignments in noise, and which variables have its first one's value; a solved example
/// comes first.
RulerPrompt make_vt(const Fit& fit, Random random);

/// Common words: a numbered list in which ten words occur more often, after a solved example.
RulerPrompt make_cwe(const Essays& essays, int length, const Fit& fit, Random random);

/// Frequent words: coded words whose frequency falls as a power of their rank, the three most frequent are asked for.
RulerPrompt make_fwe(int length, const Fit& fit, Random random);

/// Questions over documents, of which one or more have the answer.
struct QaData {
    struct Question {
        std::string text;
        std::vector<std::string> answers;
        std::vector<size_t> documents;  ///< with the answer
        std::vector<size_t> related;    ///< of the same article: they come before others
    };
    std::vector<std::string> documents;
    std::vector<Question> questions;
};

/// SQuAD's dev-v2.0.json, or HotpotQA's hotpot_dev_distractor_v1.json. Throw Error(failure) naming the file.
QaData squad_data(std::string_view content, const std::string& name);
QaData hotpotqa_data(std::string_view content, const std::string& name);

/// Question number `index` of the data, modulo their count.
RulerPrompt make_qa(const QaData& data, int index, const Fit& fit, Random random);

/// A random order.
template <class T>
void shuffle(std::vector<T>& items, Random& random) {
    for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[size_t(random.below(i))]);
}

/// `n` different numbers below `below`, in random order.
std::vector<int> sample_numbers(int n, int below, Random& random);

using text::join;

}  // namespace fastkv::eval
