// fastkv eval ruler: RULER's 13 tasks, made for the model's tokenizer or read from RULER's files.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "eval/evaluation.h"
#include "eval/json_lines.h"
#include "eval/ruler_prompts.h"
#include "fastkv/model.h"

namespace fastkv::eval {

/// How many tokens an answer may take.
enum class RulerAnswers {
    official,   ///< as RULER has it for each task: 128, 30, 120, 50, 32
    reference,  ///< 64 for all, as the FastKV reference
};

/// The 13 names, in RULER's order.
const std::vector<std::string>& ruler_tasks();

/// Those that need no data of others: the eleven that the reference runs.
std::vector<std::string> ruler_tasks_without_qa();

/// Throws Error(usage), listing the names, for one that is none.
void check_ruler_task(const std::string& name);

/// Tokens of a task's answer.
int ruler_answer_tokens(const std::string& task, RulerAnswers answers);

/// The share of the references that the answer contains, in any case; of the qa tasks 1 where it contains any of them.
double ruler_score(const std::string& task, const std::string& prediction, const std::vector<std::string>& references);

struct RulerParams {
    std::vector<std::string> tasks;
    std::vector<int> lengths = {4096};  ///< tokens of prompt, chat template included, and answer
    int n_samples = 20;                 ///< per task and length
    RulerAnswers answers = RulerAnswers::official;
    uint64_t seed = 42;
};

/// What tasks are made from.
struct RulerSources {
    std::string essays;  ///< text; "": no task that needs it
    std::optional<QaData> squad, hotpotqa;
};

/// One per length, a column per task and their mean.
std::vector<Table> ruler_tables(const std::vector<Row>& rows);

/// What differs between made and read samples is only where prompts come from.
class RulerBase : public Evaluation {
  public:
    std::string name() const override { return "ruler"; }
    double score(const Sample& sample, const std::string& prediction) const override;
    std::vector<Table> tables(const std::vector<Row>& rows) const override { return ruler_tables(rows); }
};

/// Prompts made here.
class Ruler : public RulerBase {
  public:
    Ruler(Model model, RulerParams params, RulerSources sources);

    Json settings() const override;
    std::vector<SampleInfo> samples() const override;
    Sample make(size_t index) const override;

  private:
    struct Question {
        std::string task;
        int length, index;
    };

    RulerPrompt prompt_of(const Question& question, bool probes) const;

    Model model_;
    RulerParams params_;
    Essays essays_;
    Json hashes_;  // of the sources
    RulerSources sources_;
    std::vector<Question> questions_;
};

/// One of RULER's files: a row has "input", which ends with the beginning of the answer, and "outputs".
struct RulerFile {
    std::string task;
    int length = 0;  ///< 0: unknown
    std::vector<JsonLine> rows;
    uint64_t hash = 0;  ///< of its content
};

/// Prompts read from files.
class RulerRows : public RulerBase {
  public:
    /// `n_samples`: the first rows of each file; 0: all. Throws Error(failure) naming file and line of a row that lacks
    /// something.
    RulerRows(const std::vector<RulerFile>& files, int n_samples, RulerAnswers answers);

    Json settings() const override;
    std::vector<SampleInfo> samples() const override;
    Sample make(size_t index) const override;

  private:
    std::vector<Sample> samples_;
    Json hashes_;
    RulerAnswers answers_;
};

}  // namespace fastkv::eval
