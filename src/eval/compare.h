// What methods make of FullKV's own answers: every method is told FullKV's answer token by token, and what it would
// have said instead is held against FullKV.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "eval/document_questions.h"

namespace fastkv::eval {

/// Agreement over all tokens and over whole answers; divergence over all tokens.
std::vector<Table> compare_tables(const std::vector<Row>& rows);

class Compare : public DocumentQuestions {
  public:
    using DocumentQuestions::DocumentQuestions;

    std::string name() const override { return "compare"; }

    /// The row's score is the share of FullKV's answer tokens, its end included, that are the method's most likely ones
    /// too; its prediction is the method's own greedy answer, its reference FullKV's. Under `more`: "kl", the
    /// divergence KL(FullKV || method) in nats at every token, and "agrees", whether the most likely token is the same.
    void ask(const Sample& sample, const Asking& asking, Row& row) const override;

    std::vector<Table> tables(const std::vector<Row>& rows) const override { return compare_tables(rows); }

    /// answers.md: every question with FullKV's answer and the others beside it.
    std::vector<std::pair<std::string, std::string>> files(const std::vector<Row>& rows) const override;

  private:
    struct FullAnswer {
        std::string sample_id;
        std::vector<Token> tokens;  // with the one that ended it
        std::vector<float> logits;  // [tokens][n_vocab] that each was taken from
        std::string text;
    };

    const FullAnswer& full_answer(const Sample& sample, const Asking& asking) const;

    mutable std::optional<FullAnswer> full_;  // of the sample that was asked last
};

}  // namespace fastkv::eval
