#include "eval/longbench_sets.h"

#include <algorithm>

#include "eval/longbench_metrics.h"
#include "eval/rouge_l.h"
#include "fastkv/error.h"

namespace fastkv::eval {

namespace {

double score_against(const LongBenchSet& set, const std::string& prediction, const std::string& answer,
                     const std::vector<std::string>& all_classes) {
    switch (set.metric) {
        case Metric::qa_f1: return qa_f1(prediction, answer);
        case Metric::rouge_l: return rouge_l(prediction, answer);
        case Metric::classification: return classification_score(prediction, answer, all_classes);
        case Metric::count: return count_score(prediction, answer);
        case Metric::retrieval: return retrieval_score(prediction, answer);
        case Metric::code_similarity: return code_similarity(prediction, answer);
    }
    return 0;
}

}  // namespace

const std::vector<LongBenchSet>& longbench_sets() {
    static const std::vector<LongBenchSet> sets = {
        {"narrativeqa", "single-document QA", Metric::qa_f1, true},
        {"qasper", "single-document QA", Metric::qa_f1, true},
        {"multifieldqa_en", "single-document QA", Metric::qa_f1, true},
        {"hotpotqa", "multi-document QA", Metric::qa_f1, true},
        {"2wikimqa", "multi-document QA", Metric::qa_f1, true},
        {"musique", "multi-document QA", Metric::qa_f1, true},
        {"gov_report", "summarization", Metric::rouge_l, true},
        {"qmsum", "summarization", Metric::rouge_l, true},
        {"multi_news", "summarization", Metric::rouge_l, true},
        {"trec", "few-shot", Metric::classification, false, true},
        {"triviaqa", "few-shot", Metric::qa_f1, false, true},
        {"samsum", "few-shot", Metric::rouge_l, false, true},
        {"passage_count", "synthetic", Metric::count, true},
        {"passage_retrieval_en", "synthetic", Metric::retrieval, true},
        {"lcc", "code", Metric::code_similarity, false},
        {"repobench-p", "code", Metric::code_similarity, false},
    };
    return sets;
}

const LongBenchSet& find_longbench_set(const std::string& name) {
    std::string known;
    for (const LongBenchSet& set : longbench_sets()) {
        if (set.name == name) return set;
        known += (known.empty() ? "" : ", ") + set.name;
    }
    refuse("--tasks: \"" + name + "\" is none of LongBench's English and code sets: " + known);
}

std::string metric_name(Metric metric) {
    switch (metric) {
        case Metric::qa_f1: return "qa_f1";
        case Metric::rouge_l: return "rouge_l";
        case Metric::classification: return "classification";
        case Metric::count: return "count";
        case Metric::retrieval: return "retrieval";
        case Metric::code_similarity: return "code_similarity";
    }
    return "";
}

double longbench_score(const LongBenchSet& set, const std::string& prediction, const std::vector<std::string>& answers,
                       const std::vector<std::string>& all_classes) {
    const std::string counted = set.first_line ? first_line(prediction) : prediction;
    double best = 0;
    for (const std::string& answer : answers) best = std::max(best, score_against(set, counted, answer, all_classes));
    return best;
}

int longbench_e_part(int n_words) { return n_words < 4000 ? 0 : n_words < 8000 ? 1 : 2; }

}  // namespace fastkv::eval
