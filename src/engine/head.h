// From the residual stream to logits, and from tokens to the residual stream.
#pragma once

#include <span>

#include "engine/expand.h"
#include "engine/graph.h"
#include "fastkv/session.h"
#include "model/model_impl.h"

namespace fastkv {

/// The embeddings of `tokens` as float32: rows [tokens.size()][n_embd].
void embed(const Weights& weights, std::span<const Token> tokens, float* rows);

/// Final norm and output matrix for rows of the residual stream.
class Head {
  public:
    explicit Head(const Model::Impl& model);

    const Device& device() const { return *model_.weights.output_device; }

    /// Rows that run_each() computes at a time: their logits, n_vocab floats each, are the largest thing there is.
    static constexpr int chunk_rows = 128;

    /// logits [n_rows][n_vocab] of a few rows [n_rows][n_embd], by the weights as the file has them.
    void run(std::span<const float> rows, std::span<float> logits);

    /// Hands the logits of rows [n_rows][n_embd] to `take`, chunk_rows at a time. Many rows go through the expanded
    /// output matrix.
    void run_each(std::span<const float> rows, const LogitsCallback& take) const;

  private:
    const Model::Impl& model_;
    ggml_gallocr_ptr allocator_;
    std::vector<float> rows_;        // [n_rows][n_embd] input of graph_
    std::unique_ptr<Graph> graph_;   // of run(), built again for another number of rows
    ggml_tensor* logits_ = nullptr;  // [n_vocab, n_rows]
};

}  // namespace fastkv
