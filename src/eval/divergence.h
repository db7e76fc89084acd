// How far the next-token distributions of two runs are apart.
#pragma once

#include <span>
#include <vector>

#include "fastkv/model.h"

namespace fastkv::eval {

/// Kullback-Leibler divergence KL(p || q) in nats of the distributions that two rows of logits [n_vocab] stand for:
/// what q costs whoever expects p. Never below 0, 0 for equal rows.
double kl_divergence(std::span<const float> p, std::span<const float> q);

/// The most likely token, the first of equal ones.
Token top_token(std::span<const float> logits);

}  // namespace fastkv::eval
