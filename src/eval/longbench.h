// LongBench (arXiv 2308.14508): questions about long texts, summaries, few-shot tasks and code from real data.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "eval/evaluation.h"
#include "eval/longbench_sets.h"

namespace fastkv::eval {

/// The files of LongBench as its repository lays them out, in memory.
struct LongBenchData {
    struct File {
        std::string name;  ///< for messages
        std::string content;
    };
    File prompts;                       ///< dataset2prompt.json: set -> text with {context} and {input}
    File lengths;                       ///< dataset2maxlen.json: set -> tokens of an answer
    std::map<std::string, File> files;  ///< by set: a JSON object a line, the reference's fields
};

struct LongBenchParams {
    std::vector<std::string> sets;  ///< to ask, of those that have a file
    int limit = 0;                  ///< the first samples of each set; 0: all
    bool by_length = false;         ///< LongBench-E: tables by the words of the context
};

/// By set, with the plain mean; by group, with the mean over groups that FastKV's paper prints as its average; with
/// `by_length` by set in three tables more.
std::vector<Table> longbench_tables(const std::vector<Row>& rows, bool by_length);

class LongBench : public Evaluation {
  public:
    /// Throws Error(failure) naming file and line where the data is malformed.
    LongBench(LongBenchParams params, const LongBenchData& data);

    std::string name() const override { return "longbench"; }
    Json settings() const override;
    std::vector<SampleInfo> samples() const override;  ///< the first of every set, then the second of every set, ...
    Sample make(size_t index) const override;
    double score(const Sample& sample, const std::string& prediction) const override;
    std::vector<Table> tables(const std::vector<Row>& rows) const override {
        return longbench_tables(rows, params_.by_length);
    }

  private:
    struct Question {
        const LongBenchSet* set;
        int index;            // in its file
        std::string message;  // the prompt, filled in
        int n_predict;
        std::vector<std::string> answers, all_classes;
        Json more;  // what its row has from the data
    };

    void add_set(const LongBenchSet& set, const LongBenchData& data, const Json& prompts, const Json& lengths);

    LongBenchParams params_;
    std::string data_hash_;
    std::vector<Question> questions_;
};

/// str.format() of Python, as far as LongBench's prompts use it: "{name}" is the row's text or number of that name,
/// "{{" and "}}" are braces. Throws Error(failure) that begins with `where` for a name that the row lacks.
std::string fill_in(const std::string& pattern, const Json& row, const std::string& where);

}  // namespace fastkv::eval
