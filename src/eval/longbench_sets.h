// The 16 English and code sets of LongBench (arXiv 2308.14508): how each is asked, scored and averaged.
#pragma once

#include <string>
#include <vector>

namespace fastkv::eval {

enum class Metric { qa_f1, rouge_l, classification, count, retrieval, code_similarity };

/// One set.
struct LongBenchSet {
    std::string name;   ///< "multi_news": the data's file name and the key in the configuration files
    std::string group;  ///< "summarization"
    Metric metric;
    bool chat;                ///< the prompt is a user's turn in the chat template; few-shot and code prompts are not
    bool first_line = false;  ///< only the first line of an answer counts: few-shot answers run on into examples
};

/// All 16, group by group, in the order in which papers list them.
const std::vector<LongBenchSet>& longbench_sets();

/// Throws Error(usage) for an unknown name.
const LongBenchSet& find_longbench_set(const std::string& name);

/// "qa_f1"
std::string metric_name(Metric metric);

/// The best score in [0, 1] over the reference answers; 0 without any.
double longbench_score(const LongBenchSet& set, const std::string& prediction, const std::vector<std::string>& answers,
                       const std::vector<std::string>& all_classes);

/// LongBench-E's division by words of the context: 0 below 4,000, 1 below 8,000, 2 from there on.
int longbench_e_part(int n_words);

}  // namespace fastkv::eval
