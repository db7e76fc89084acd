#include "eval/longbench_metrics.h"

#include <algorithm>
#include <map>

#include "eval/python_text.h"
#include "eval/sequence_matcher.h"
#include "fastkv/error.h"

namespace fastkv::eval {

namespace {

constexpr std::u32string_view ascii_punctuation = U"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";  // string.punctuation

/// re.sub(r"\b(a|an|the)\b", " ", text)
std::u32string without_articles(const std::u32string& text) {
    std::u32string result;
    for (size_t i = 0; i < text.size();) {
        size_t end = i;
        while (end < text.size() && python::is_word(text[end])) ++end;
        const auto word = std::u32string_view(text).substr(i, end - i);
        const bool article = word == U"a" || word == U"an" || word == U"the";
        result += article ? std::u32string_view(U" ") : word;
        for (i = end; i < text.size() && !python::is_word(text[i]); ++i) result += text[i];
    }
    return result;
}

std::vector<std::u32string> answer_words(std::string_view answer) {
    std::u32string text = python::lower(python::code_points(answer));
    std::erase_if(text, [](char32_t c) { return ascii_punctuation.find(c) != std::u32string_view::npos; });
    return python::split(without_articles(text));
}

/// Words in both, as often as they are.
size_t common_words(const std::vector<std::u32string>& x, const std::vector<std::u32string>& y) {
    std::map<std::u32string_view, int> left;
    for (const auto& word : x) ++left[word];
    return size_t(std::count_if(y.begin(), y.end(), [&](const auto& word) { return left[word]-- > 0; }));
}

double share_of_numbers(std::string_view prediction, std::u32string_view wanted) {
    const auto numbers = python::digit_runs(python::code_points(prediction));
    if (numbers.empty()) return 0;
    return double(std::count(numbers.begin(), numbers.end(), wanted)) / double(numbers.size());
}

}  // namespace

double qa_f1(std::string_view prediction, std::string_view reference) {
    const auto predicted = answer_words(prediction), wanted = answer_words(reference);
    const size_t common = common_words(predicted, wanted);
    if (common == 0) return 0;
    const double precision = double(common) / double(predicted.size());
    const double recall = double(common) / double(wanted.size());
    return (2 * precision * recall) / (precision + recall);
}

double classification_score(std::string_view prediction, std::string_view reference,
                            const std::vector<std::string>& all_classes) {
    std::vector<std::string> named;
    for (const std::string& name : all_classes) {
        if (prediction.find(name) != std::string_view::npos) named.push_back(name);
    }
    for (size_t i = 0; i < named.size(); ++i) {
        const std::string name = named[i];
        const bool part = reference.find(name) != std::string_view::npos && name != reference;
        if (part) named.erase(std::find(named.begin(), named.end(), name));  // and the next one moves to i, unseen
    }
    const bool right = std::find(named.begin(), named.end(), reference) != named.end();
    return right ? 1.0 / double(named.size()) : 0;
}

double count_score(std::string_view prediction, std::string_view reference) {
    return share_of_numbers(prediction, python::code_points(reference));
}

double retrieval_score(std::string_view prediction, std::string_view reference) {
    constexpr std::u32string_view cue = U"Paragraph ";
    const std::u32string text = python::code_points(reference);
    for (size_t at = text.find(cue); at != text.npos; at = text.find(cue, at + 1)) {
        const size_t digits = at + cue.size();
        if (digits < text.size() && python::is_digit(text[digits])) {
            return share_of_numbers(prediction, python::digit_runs(std::u32string_view(text).substr(digits))[0]);
        }
    }
    fail("the reference answer \"" + std::string(reference) + "\" names no \"Paragraph N\"");
}

double code_similarity(std::string_view prediction, std::string_view reference) {
    const std::u32string text = python::code_points(prediction);
    std::u32string code;
    for (const std::u32string& line : python::split(python::strip_leading_newlines(text), U'\n')) {
        if (python::contains(line, U"`") || python::contains(line, U"#") || python::contains(line, U"//")) continue;
        code = line;
        break;
    }
    return fuzz_ratio(code, python::code_points(reference)) / 100.0;
}

std::string first_line(std::string_view prediction) {
    const size_t begin = std::min(prediction.find_first_not_of('\n'), prediction.size());
    return std::string(prediction.substr(begin, prediction.find('\n', begin) - begin));
}

}  // namespace fastkv::eval
