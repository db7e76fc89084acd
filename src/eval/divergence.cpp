#include "eval/divergence.h"

#include <algorithm>
#include <cmath>

namespace fastkv::eval {

namespace {

/// log of the sum of exp(logits)
double log_sum(std::span<const float> logits) {
    const double largest = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (const float logit : logits) sum += std::exp(logit - largest);
    return largest + std::log(sum);
}

}  // namespace

double kl_divergence(std::span<const float> p, std::span<const float> q) {
    const double log_sum_p = log_sum(p), log_sum_q = log_sum(q);
    double divergence = 0;
    for (size_t i = 0; i < p.size(); ++i) {
        const double log_p = p[i] - log_sum_p, log_q = q[i] - log_sum_q;
        divergence += std::exp(log_p) * (log_p - log_q);
    }
    return std::max(0.0, divergence);
}

Token top_token(std::span<const float> logits) {
    return Token(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace fastkv::eval
