// The 16 English and code sets of LongBench (arXiv 2308.14508): how each is asked, scored and averaged.
#pragma once

#include <optional>
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

/// A scored sample.
struct LongBenchSample {
    double score = 0;  ///< in [0, 1]
    int length = 0;    ///< words of the context, or characters, as the data says it
};

/// Scores of a set in percent, rounded to two digits as the script of LongBench prints them.
struct LongBenchMeans {
    std::optional<double> all;   ///< none without samples
    std::optional<double> e[3];  ///< LongBench-E: of samples under 4,000 words, under 8,000, and longer
};

LongBenchMeans longbench_means(const std::vector<LongBenchSample>& samples);

/// A set's mean by its name.
struct SetMean {
    std::string set;
    double mean = 0;  ///< percent
};

/// Averages over sets.
struct LongBenchAverages {
    std::vector<SetMean> groups;       ///< of those groups that have a set, the mean over its sets
    double mean_of_groups = 0;         ///< the average of FastKV's paper: over six groups, whatever their sizes
    double mean_of_sets = 0;           ///< the plain mean, that others give
    std::vector<std::string> missing;  ///< sets without a mean: with any, the two numbers are not the papers'
};

/// `sets` must not be empty.
LongBenchAverages longbench_averages(const std::vector<SetMean>& sets);

}  // namespace fastkv::eval
