// A transformer in double precision and plain loops, which the engine is held against. It knows no caches: whoever asks
// says which entries a query sees.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "fastkv/model.h"
#include "methods/plan.h"
#include "methods/select.h"

namespace fastkv::test {

/// The float32 weights of a GGUF file, by name: matrices row by row.
class NaiveModel {
  public:
    /// `hparams` as fastkv has read them. Throws std::runtime_error where a tensor is not float32.
    NaiveModel(const std::string& path, const HyperParams& hparams);

    /// Empty where there is none of that name.
    const std::vector<double>& tensor(const std::string& name) const;

    HyperParams hparams;

  private:
    std::map<std::string, std::vector<double>> tensors_;
};

/// A key and value that a query sees: those of the token at `position`, the key rotated as if it stood at `stands_at`.
struct NaiveEntry {
    int position = 0;
    int stands_at = 0;
};

/// One prompt and the answer that grows from it. Copies go their own ways.
class NaiveSession {
  public:
    explicit NaiveSession(const NaiveModel& model);

    /// Positions are 0 to n - 1. `go_on` [n_layer]: the positions that go on past each layer, empty where all do.
    void prefill(std::span<const Token> prompt, std::span<const std::vector<int>> go_on);

    /// What query head `head` of `layer` sees besides its own token.
    using Visible = std::function<std::vector<NaiveEntry>(int layer, int head)>;

    /// One more token at `position`, which is rotated as if it stood at `stands_at`.
    void decode(Token token, int position, int stands_at, const Visible& visible);

    int n_head() const { return model_->hparams.n_head; }

    /// Of the newest token: [n_vocab].
    const std::vector<float>& logits() const { return logits_; }

    /// The prompt's scores in a layer as `plan` asks for them, before pooling.
    Scores scores(int layer, const ScorePlan& plan) const;

  private:
    /// What one layer knows of the tokens that reached it.
    struct Layer {
        std::vector<int> positions;  // [n] ascending
        std::vector<int> rows;       // [positions so far] where each is in `positions`, or -1
        std::vector<double> q;       // [n][n_head][head_dim] rotated
        std::vector<double> k;       // [n][n_head_kv][head_dim] not rotated
        std::vector<double> turned;  // [n][n_head_kv][head_dim] rotated by `positions`
        std::vector<double> v;       // [n][n_head_kv][head_dim]
    };

    std::vector<double> normed(std::span<const double> x, const std::string& weight) const;
    std::vector<double> linear(std::span<const double> x, const std::string& name) const;
    void rotate(std::span<double> heads, int position) const;
    void enter(int layer, std::span<const double> x, int position, int stands_at);
    std::vector<double> attend(int layer, size_t row, int stands_at, const Visible& visible) const;
    void finish(int layer, std::vector<double>& x, std::span<const double> attention) const;
    void compute_logits(std::span<const double> x);

    const NaiveModel* model_;
    std::vector<Layer> layers_;  // [n_layer]
    size_t n_prompt_ = 0;
    std::vector<float> logits_;
};

}  // namespace fastkv::test
