// Scores of some rows of queries by a run of keys, and the probabilities that become of them in place: what stands
// between the two products of an attention.
#pragma once

#include <cstddef>

#include "kernels/half_softmax.h"
#include "kernels/product.h"
#include "kernels/vector_ops.h"

namespace fastkv::kernels {

/// [n_row][n_key], in memory of the caller's. Scores are float32 and become probabilities of the products' type; where
/// products are of float16, both are float16.
class ScoreBlock {
  public:
    /// Bytes of a score of queries and keys of `key_length` values.
    static size_t score_bytes(GemmType type, int key_length);

    /// `memory` [n_row · n_key · score_bytes], `scales` [n_row] for probabilities.
    ScoreBlock(GemmType type, int key_length, int n_row, int n_key, void* memory, float* scales);

    /// Queries [n_row][key_length] times packed keys [n_key].
    void multiply(const ReadyRows& queries, const PackedColumns& keys);

    /// Hides keys [begin, end) from a row: their score becomes -inf.
    void hide(int row, int begin, int end);

    /// A step of the online softmax: probabilities as products take them.
    ReadyRows to_probabilities(const OnlineSoftmax& online);

  private:
    GemmType type_;
    int key_length_;
    int n_row_;
    int n_key_;
    void* memory_;
    float* scales_;
    bool in_half_;
    half::ScoreScales scales_of_scores_;
};

}  // namespace fastkv::kernels
