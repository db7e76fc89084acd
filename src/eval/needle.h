// Needle in a haystack (Kamradt 2023), as the FastKV reference runs it, and in a chat.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "eval/evaluation.h"
#include "fastkv/model.h"
#include "plot/heat_map.h"

namespace fastkv::eval {

enum class NeedleProtocol {
    chat,            ///< a plain question in the model's chat template; lengths are those of the whole prompt
    reference,       ///< the reference's frame without a chat template; lengths as the reference counts them
    reference_chat,  ///< the same frame in the chat template, as the reference does for Mistral models
};

struct NeedleParams {
    NeedleProtocol protocol = NeedleProtocol::chat;
    std::vector<int> lengths = {1000, 2000, 4000};
    std::vector<int> depths;  ///< % of the text before the needle
    int limit = 0;            ///< cells that are asked, 0: all
};

/// Tokens that an answer may take.
int needle_predict(NeedleProtocol protocol);

/// `n` depths from 0 to 100, rounded to the nearest even where halves meet: round(linspace(0, 100, n)).
std::vector<int> even_depths(int n);

/// Puts `needle` into `context` so that `depth` % of it stand before, moved back to the last full stop (to the
/// beginning where there is none); at 100 % it is appended. The context is cut so that both have at most `budget`
/// tokens. `is_full_stop` says which tokens are.
std::vector<Token> insert_needle(std::vector<Token> context, const std::vector<Token>& needle, int budget, int depth,
                                 const std::function<bool(Token)>& is_full_stop);

/// The share of the words of `expected` (split at white space, in lower case, each once) that `response` has.
double word_overlap(const std::string& response, const std::string& expected);

/// A column per length, and their mean.
std::vector<Table> needle_tables(const std::vector<Row>& rows);

/// Every cell of a setting, called by its short name.
plot::HeatMap needle_heat_map(const std::vector<Row>& rows, const std::string& setting, const std::string& name);

class Needle : public Evaluation {
  public:
    /// `haystack` is repeated where it is too short; it is never empty.
    Needle(Model model, NeedleParams params, const std::string& haystack);

    std::string name() const override { return "needle"; }
    Json settings() const override;
    std::vector<SampleInfo> samples() const override;
    Sample make(size_t index) const override;
    double score(const Sample& sample, const std::string& prediction) const override;
    std::vector<Table> tables(const std::vector<Row>& rows) const override { return needle_tables(rows); }
    std::vector<std::pair<std::string, std::string>> files(const std::vector<Row>& rows) const override;

  private:
    std::string framed(const std::string& text) const;
    int budget_of(int length) const;  // tokens of text and needle
    std::string text_of(int length, int depth) const;

    Model model_;
    NeedleParams params_;
    uint64_t haystack_hash_;
    std::vector<Token> haystack_;             // as many tokens as the longest sample needs
    std::vector<std::pair<int, int>> cells_;  // lengths and depths
};

}  // namespace fastkv::eval
