// ROUGE-L as the Python package `rouge` 1.0.1 computes it, which LongBench's summaries are scored with. Google's
// rouge_score gives other numbers.
#pragma once

#include <string_view>

namespace fastkv::eval {

/// The summary-level F-measure in [0, 1], with the package's own rules:
/// * Sentences are the pieces between full stops; words are what white space divides, with their case and punctuation.
///   A piece of white space alone is a sentence of one word, the empty one.
/// * Of every sentence of the reference and every one of the prediction, the words of one longest common subsequence
///   go into one set for all. Recall is the set's size over the reference's distinct words, precision over the
///   prediction's.
/// * 0 where the package throws, as LongBench's script counts it: a text without a piece, and a pair of sentences so
///   long that reading the subsequence out of its table goes deeper than Python's recursion limit of 1,000.
double rouge_l(std::string_view prediction, std::string_view reference);

}  // namespace fastkv::eval
