// Plain loops over contiguous numbers, which the compiler vectorises.
#include "methods/expected_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace fastkv {

namespace {

constexpr int block_rows = 64;

// square[i][j] += the sum over four rows of row[i] · row[j], for j >= i. `rows` [4][dim].
void add_four_products(const float* rows, int dim, float* square) {
    const float *a = rows, *b = a + dim, *c = b + dim, *d = c + dim;
    for (int i = 0; i < dim; ++i) {
        float* out = square + size_t(i) * size_t(dim);
        const float ai = a[i], bi = b[i], ci = c[i], di = d[i];
        for (int j = i; j < dim; ++j) out[j] += ai * a[j] + bi * b[j] + ci * c[j] + di * d[j];
    }
}

// R·x for a vector whose elements stand `stride` apart.
void rotate(const MeanRotation& rotation, double* x, size_t stride) {
    const size_t n_pair = rotation.cos.size();
    for (size_t i = 0; i < n_pair; ++i) {
        double& a = x[(rotation.interleaved ? 2 * i : i) * stride];
        double& b = x[(rotation.interleaved ? 2 * i + 1 : i + n_pair) * stride];
        const double a_was = a;
        a = a_was * rotation.cos[i] - b * rotation.sin[i];
        b = a_was * rotation.sin[i] + b * rotation.cos[i];
    }
}

// Up to block_rows keys, one to a lane: `keys` [dim][block_rows], `out` [block_rows].
void logits_of_block(const float* keys, int dim, const float* mean, const float* product, float* out) {
    std::fill(out, out + block_rows, 0.0f);
    for (int i = 0; i < dim; ++i) {
        float sum[block_rows];
        std::fill(sum, sum + block_rows, mean[i]);
        for (int j = i; j < dim; ++j) {
            const float factor = product[size_t(i) * size_t(dim) + size_t(j)];
            const float* key = keys + size_t(j) * block_rows;
            for (int lane = 0; lane < block_rows; ++lane) sum[lane] += factor * key[lane];
        }
        const float* key = keys + size_t(i) * block_rows;
        for (int lane = 0; lane < block_rows; ++lane) out[lane] += sum[lane] * key[lane];
    }
}

// Softmax with the sum in double: no key of a long text is lost to rounding.
void softmax(std::span<float> row) {
    float largest = -std::numeric_limits<float>::infinity();
    for (float x : row) largest = std::max(largest, x);
    double sum = 0;
    for (float& x : row) sum += x = std::exp(x - largest);
    for (float& x : row) x = float(x / sum);
}

}  // namespace

QueryMoments::QueryMoments(int head_dim)
    : dim_(head_dim),
      pending_(size_t(block_rows) * size_t(head_dim)),
      block_(size_t(head_dim) * size_t(head_dim)),
      sum_(size_t(head_dim)),
      square_(size_t(head_dim) * size_t(head_dim)) {}

void QueryMoments::add(const HeadRows& queries) {
    for (int i = 0; i < queries.n_row; ++i) {
        const std::span<const float> row = queries.row(i, dim_);
        if (n_row_ == 0) origin_.assign(row.begin(), row.end());
        float* difference = pending_.data() + size_t(n_pending_) * size_t(dim_);
        for (size_t j = 0; j < row.size(); ++j) {
            difference[j] = row[j] - origin_[j];
            sum_[j] += difference[j];
        }
        ++n_row_;
        if (++n_pending_ == block_rows) flush();
    }
    // Zeros add nothing: a piece that does not fill its block needs no end of its own.
    std::fill(pending_.begin() + std::ptrdiff_t(n_pending_) * dim_, pending_.end(), 0.0f);
    flush();
}

void QueryMoments::flush() {
    std::ranges::fill(block_, 0.0f);
    for (int row = 0; row < n_pending_; row += 4) {
        add_four_products(pending_.data() + size_t(row) * size_t(dim_), dim_, block_.data());
    }
    for (size_t i = 0; i < block_.size(); ++i) square_[i] += block_[i];
    n_pending_ = 0;
}

std::vector<double> QueryMoments::mean() const {
    std::vector<double> mean(size_t(dim_), 0.0);
    for (size_t i = 0; i < mean.size(); ++i) mean[i] = double(origin_[i]) + sum_[i] / n_row_;
    return mean;
}

std::vector<double> QueryMoments::covariance() const {
    const size_t dim = size_t(dim_);
    std::vector<double> covariance(dim * dim);
    for (size_t i = 0; i < dim; ++i) {
        for (size_t j = i; j < dim; ++j) {
            const double value = square_[i * dim + j] / n_row_ - sum_[i] / n_row_ * (sum_[j] / n_row_);
            covariance[i * dim + j] = covariance[j * dim + i] = value;
        }
    }
    return covariance;
}

MeanRotation mean_rotation(std::span<const double> frequencies, int first, int n_future, bool interleaved) {
    MeanRotation rotation{.cos = {}, .sin = {}, .interleaved = interleaved};
    for (double frequency : frequencies) {
        double cos = 0, sin = 0;
        for (int position = first; position < first + n_future; ++position) {
            cos += std::cos(frequency * position);
            sin += std::sin(frequency * position);
        }
        rotation.cos.push_back(cos / n_future);
        rotation.sin.push_back(sin / n_future);
    }
    return rotation;
}

ExpectedHead::ExpectedHead(std::span<const double> mean, std::span<const double> covariance,
                           const MeanRotation& rotation)
    : dim_(int(mean.size())), mean_(mean.size()), product_(covariance.size()) {
    const size_t dim = mean.size();
    std::vector<double> mu(mean.begin(), mean.end());
    rotate(rotation, mu.data(), 1);
    // R·Σ·Rᵀ: every column, then every row.
    std::vector<double> sigma(covariance.begin(), covariance.end());
    for (size_t i = 0; i < dim; ++i) rotate(rotation, sigma.data() + i, dim);
    for (size_t i = 0; i < dim; ++i) rotate(rotation, sigma.data() + i * dim, 1);

    for (size_t i = 0; i < dim; ++i) {
        mean_[i] = float(mu[i] / std::sqrt(double(dim)));
        product_[i * dim + i] = float(sigma[i * dim + i] / double(2 * dim));
        for (size_t j = i + 1; j < dim; ++j) product_[i * dim + j] = float(sigma[i * dim + j] / double(dim));
    }
}

void ExpectedHead::logits(const HeadRows& keys, std::span<float> logits) const {
    std::vector<float> lanes(size_t(dim_) * block_rows);  // [dim][block_rows]
    float out[block_rows];
    for (int first = 0; first < keys.n_row; first += block_rows) {
        const int n = std::min(block_rows, keys.n_row - first);
        for (int lane = 0; lane < n; ++lane) {
            const std::span<const float> key = keys.row(first + lane, dim_);
            for (size_t i = 0; i < key.size(); ++i) lanes[i * block_rows + size_t(lane)] = key[i];
        }
        logits_of_block(lanes.data(), dim_, mean_.data(), product_.data(), out);
        std::copy(out, out + n, logits.begin() + first);
    }
}

void expected_scores(Scores& logits, int n_sink, std::span<const float> value_norms, int n_group, float epsilon) {
    const size_t sinks = size_t(std::min(n_sink, logits.n_col));
    for (int head = 0; head < logits.n_head; ++head) {
        const std::span<float> row = logits.row(head);
        std::ranges::fill(row.first(sinks), 0.0f);
        softmax(row.subspan(sinks));
        const float* norms = value_norms.data() + size_t(head / n_group) * row.size();
        for (size_t i = sinks; i < row.size(); ++i) row[i] = (row[i] + epsilon) * norms[i];
    }
}

}  // namespace fastkv
