// What an evaluation is, and how a new one plugs in.
//
// An evaluation is a list of samples, each with a prompt and what its answer should be, and a way to score what a model
// says. The frame does everything else: it reads the prompts under every method and setting (runner.h), answers
// greedily (answer.h), keeps one row per sample and setting (row.h), goes on where a run was cut off, and makes tables
// (summary.h).
//
// To add one:
//   1. derive from Evaluation in src/eval/NAME.{h,cpp}, or from Measurement where more than the answer is looked at
//      (compare.h, oracle.h). It gets its data as text or parsed rows (json_lines.h), never as files, and a Model where
//      it needs the tokenizer.
//   2. write its flags in src/cli/eval_NAME.cpp: read the data, build the evaluation, hand it to run_eval()
//      (cli/eval.h), and list it in add_eval_command().
//   3. results come out by themselves: DIR/samples.jsonl, DIR/summary.json, the tables, and what files() returns.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "eval/prompt.h"
#include "eval/row.h"
#include "eval/summary.h"
#include "fastkv/fastkv.h"

namespace fastkv::eval {

/// One prompt and what is known about it.
struct Sample {
    std::string id;       ///< names it within the evaluation: "niah_single_1/4096/17"; the same in every run
    std::string task;     ///< what kind it is of: a task of RULER, a set of LongBench
    int index = 0;        ///< which of its task and length
    int length = 0;       ///< tokens that were asked for; 0: as it came
    double depth = -1;    ///< where the answer stands, % of the text; < 0: unknown
    std::string message;  ///< text and question
    bool chat = true;     ///< one user message in the model's chat template; false: the text as it is
    std::vector<std::string> references;  ///< right answers, or their parts: score() knows
    Json more = Json::object();           ///< further keys of its row, such as a set's number of words

    int n_predict = 0;             ///< tokens that the answer may take
    bool ends_at_newline = false;  ///< the answer is over with the token "\n"
    bool forbids_empty = false;    ///< its first token may not be one that ends answers
};

/// What is known of a sample before it is made.
struct SampleInfo {
    std::string id;
    double n_tokens = 0;  ///< of its prompt, about: for the time that is left
    int n_predict = 0;
};

/// What a sample is put to.
struct Asking {
    const Model& model;
    const MethodParams& method;
    const SessionParams& session;
    const Prompt& prompt;              ///< the sample's message, cut to what is allowed
    const ProgressCallback& progress;  ///< false stops with Error(cancelled)
};

/// What the frame runs: samples, and what is measured of each under every setting.
class Measurement {
  public:
    virtual ~Measurement() = default;

    /// As on the command line: "needle".
    virtual std::string name() const = 0;

    /// All that makes a sample or a score what it is: protocol, seed, hashes of the data. Two runs may share a folder
    /// only where these agree. Not what merely lists samples (lengths, depths, limits): more can be added later.
    virtual Json settings() const = 0;

    /// All samples, in the order in which they are asked. A run may be cut off: let the kinds take turns.
    virtual std::vector<SampleInfo> samples() const = 0;

    /// Makes sample number `index` of samples(). Always the same one.
    virtual Sample make(size_t index) const = 0;

    /// Puts the sample to the model under one setting and fills in the row: its score in [0, 1], higher is better, what
    /// was said and what it took, and keys of its own under `more`. Settings of a sample come one after the other.
    virtual void ask(const Sample& sample, const Asking& asking, Row& row) const = 0;

    /// Tables of all rows of a folder, of this run and of earlier ones. summary.h helps.
    virtual std::vector<Table> tables(const std::vector<Row>& rows) const = 0;

    /// Further files for the folder: names and contents, such as pictures.
    virtual std::vector<std::pair<std::string, std::string>> files(const std::vector<Row>&) const { return {}; }
};

/// The usual kind: what the model says is scored.
class Evaluation : public Measurement {
  public:
    void ask(const Sample& sample, const Asking& asking, Row& row) const override;

    /// In [0, 1], higher is better.
    virtual double score(const Sample& sample, const std::string& prediction) const = 0;
};

}  // namespace fastkv::eval
