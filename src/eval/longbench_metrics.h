// The scores of LongBench (arXiv 2308.14508), each in [0, 1], as its evaluation script computes them in Python.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fastkv::eval {

/// Words in common after lower case, without ASCII punctuation, articles and white space: their F-measure.
double qa_f1(std::string_view prediction, std::string_view reference);

/// 1 / n where the reference is among the n classes that the prediction names. A class is not counted that is part of
/// the reference's name, but after each such one the next is not looked at: the script removes from the list it walks.
double classification_score(std::string_view prediction, std::string_view reference,
                            const std::vector<std::string>& all_classes);

/// Of the numbers in the prediction, the share that is the reference, digit for digit; 0 without a number.
double count_score(std::string_view prediction, std::string_view reference);

/// The same with the number of the reference's "Paragraph N". Throws Error(failure) where it has none.
double retrieval_score(std::string_view prediction, std::string_view reference);

/// fuzz_ratio() / 100 of the prediction's first line that holds none of "`", "#" and "//".
double code_similarity(std::string_view prediction, std::string_view reference);

/// The first line of the prediction, without the empty ones before it: what few-shot answers are reduced to.
std::string first_line(std::string_view prediction);

}  // namespace fastkv::eval
