// How well a method's choice agrees with what the answer looks at: the answer-informed oracle of CLAA (arXiv
// 2602.16054). FullKV answers, and its answer's attention back to the prompt says which tokens would have been worth
// keeping; a method's choice is made before the answer is known.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "eval/attention_share.h"
#include "eval/document_questions.h"
#include "plot/chart.h"

namespace fastkv::eval {

/// The shares that are kept, that could have been, and that went on.
std::vector<Table> oracle_tables(const std::vector<Row>& rows);

/// The share over the layers, a line for each setting but FullKV, and a thin one for the best choice of as many tokens.
plot::Chart oracle_chart(const std::vector<Row>& rows);

class Oracle : public DocumentQuestions {
  public:
    using DocumentQuestions::DocumentQuestions;

    std::string name() const override { return "oracle"; }

    /// The row's score is the share of the answer's attention to the prompt, past its first tokens, that falls on what
    /// the method keeps: the mean over layers. Its reference is FullKV's answer; it has no prediction, for the method
    /// only reads. Under `more`, by layer [n_layer]: "kept" and "best" (the same number of tokens, chosen by the
    /// attention itself), "kept_all" (first tokens counted), and "propagated": for each layer past which only some
    /// tokens go on, its number, theirs, and the share that they have of the attention in all layers above.
    void ask(const Sample& sample, const Asking& asking, Row& row) const override;

    std::vector<Table> tables(const std::vector<Row>& rows) const override { return oracle_tables(rows); }

    /// layers.svg, and as PNG where there is cairo: the share over the layers, one line a setting.
    std::vector<std::pair<std::string, std::string>> files(const std::vector<Row>& rows) const override;

  private:
    struct FullAnswer {
        std::string sample_id;
        std::string text;
        int n_prompt = 0;
        std::vector<std::vector<float>> attention;  // [n_layer][n_head][n_prompt]
    };

    const FullAnswer& full_answer(const Sample& sample, const Asking& asking) const;

    mutable std::optional<FullAnswer> full_;  // of the sample that was asked last
};

}  // namespace fastkv::eval
