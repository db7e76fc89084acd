// ExpectedAttention (Devoto et al., arXiv 2510.00636): how much attention queries to come will pay to a key, if they
// are distributed as the prompt's. Pure functions of one head and a piece of its rows, so that a caller may go through
// heads on several threads and through rows in pieces.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "methods/select.h"

namespace fastkv {

/// Some rows of one head: `n_row` times head_dim numbers that stand `stride` numbers apart.
struct HeadRows {
    const float* data = nullptr;
    int n_row = 0;
    size_t stride = 0;

    std::span<const float> row(int i, int head_dim) const { return {data + size_t(i) * stride, size_t(head_dim)}; }
};

/// Mean and covariance of a query head's queries, added up piece by piece.
class QueryMoments {
  public:
    explicit QueryMoments(int head_dim);

    /// Queries before the rotation (RoPE). The first tokens, the sinks, are better left out: they are outliers.
    void add(const HeadRows& queries);

    /// Of what has been added, at least one row. The covariance is the population's: divided by the number of rows.
    std::vector<double> mean() const;        ///< [head_dim]
    std::vector<double> covariance() const;  ///< [head_dim][head_dim]

  private:
    void flush();

    int dim_;
    int n_row_ = 0;
    int n_pending_ = 0;
    std::vector<float> origin_;   // [dim] the first query; sums are of differences from it, which are small
    std::vector<float> pending_;  // [<= rows of a block][dim] differences
    std::vector<float> block_;    // [dim][dim] products of a block, summed in float32
    std::vector<double> sum_;     // [dim]
    std::vector<double> square_;  // [dim][dim], j >= i only
};

/// The rotation (RoPE) of the positions to come, averaged: the paper's section 3.2.
struct MeanRotation {
    std::vector<double> cos;   ///< [n_rot / 2]
    std::vector<double> sin;   ///< [n_rot / 2]
    bool interleaved = false;  ///< pairs (0, 1), (2, 3) and so on; else (0, n_rot / 2), (1, n_rot / 2 + 1) and so on
};

/// Over `n_future` positions from `first` on. `frequencies` [n_rot / 2]: the angle per position in radians.
MeanRotation mean_rotation(std::span<const double> frequencies, int first, int n_future, bool interleaved);

/// One query head: what its queries to come pay.
class ExpectedHead {
  public:
    /// `mean` [head_dim] and `covariance` [head_dim][head_dim], symmetric: of queries before the rotation.
    ExpectedHead(std::span<const double> mean, std::span<const double> covariance, const MeanRotation& rotation);

    /// For each key k, rotated, the logarithm of the expected exp(q·k/√d) over Gaussian queries q:
    /// μ·k/√d + kᵀΣk/(2d). `logits` [keys.n_row]. n_row · d² / 2 multiplications.
    void logits(const HeadRows& keys, std::span<float> logits) const;

  private:
    int dim_;
    std::vector<float> mean_;     // [dim] μ rotated, over √d
    std::vector<float> product_;  // [dim][dim] kᵀΣk/(2d) as a triangle: column j of row i counts both ij and ji, j >= i
};

/// From logits to scores, in place. For every query head: softmax over the columns from `n_sink` on, plus `epsilon`,
/// times the norm of the value. The first `n_sink` columns become 0: they are not judged, and whoever selects must keep
/// them. `value_norms` [n_head / n_group][n_col].
void expected_scores(Scores& logits, int n_sink, std::span<const float> value_norms, int n_group, float epsilon = 0);

}  // namespace fastkv
