// ExpectedAttention: moments, rotation and scores against double sums, and the formula against sampled queries.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "methods/expected_attention.h"

namespace fastkv {
namespace {

using testing::Each;
using testing::FloatEq;

std::vector<float> random_floats(size_t n, uint32_t seed, float mean = 0, float deviation = 1) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(mean, deviation);
    std::vector<float> values(n);
    for (float& x : values) x = normal(random);
    return values;
}

// mu·k/sqrt(d) + k'Sk/(2d) in double.
double naive_logit(const std::vector<double>& mean, const std::vector<double>& covariance, std::span<const float> key) {
    const size_t dim = mean.size();
    double linear = 0, square = 0;
    for (size_t i = 0; i < dim; ++i) {
        linear += mean[i] * key[i];
        for (size_t j = 0; j < dim; ++j) square += double(key[i]) * covariance[i * dim + j] * key[j];
    }
    return linear / std::sqrt(double(dim)) + square / double(2 * dim);
}

// Pieces of any size, strides between heads, and queries that are far from zero but close to each other, as a bias of
// the projection makes them.
TEST(QueryMoments, EqualDoubleSums) {
    constexpr int dim = 24, n_row = 401;
    constexpr size_t stride = 3 * dim;
    std::vector<float> queries = random_floats(n_row * stride, 3, 200, 0.5f);
    QueryMoments moments(dim);
    int row = 0;
    for (int piece : {1, 2, 64, 130, 3, 201}) {
        moments.add({.data = queries.data() + size_t(row) * stride + dim, .n_row = piece, .stride = stride});
        row += piece;
    }
    ASSERT_EQ(row, n_row);

    std::vector<double> mean(dim);
    for (size_t r = 0; r < n_row; ++r) {
        for (size_t i = 0; i < dim; ++i) mean[i] += double(queries[r * stride + dim + i]) / n_row;
    }
    for (size_t i = 0; i < dim; ++i) EXPECT_NEAR(moments.mean()[i], mean[i], 1e-5);
    const std::vector<double> covariance = moments.covariance();
    for (size_t i = 0; i < dim; ++i) {
        for (size_t j = 0; j < dim; ++j) {
            double expected = 0;
            for (size_t r = 0; r < n_row; ++r) {
                const float* x = queries.data() + r * stride + dim;
                expected += (x[i] - mean[i]) * (x[j] - mean[j]) / n_row;
            }
            EXPECT_NEAR(covariance[i * dim + j], expected, 1e-5);
        }
    }
}

// The averaged rotation of a product equals the average of the rotated products: it is linear. Part of the head is not
// rotated.
TEST(ExpectedHead, RotatesTheMeanByTheAveragedRotation) {
    constexpr size_t dim = 10, n_pair = 4;
    const std::vector<double> frequencies = {1, 0.3, 0.05, 0.001};
    for (bool interleaved : {false, true}) {
        const std::vector<float> mean = random_floats(dim, 5), key = random_floats(dim, 6);
        double expected = 0;
        for (int position = 100; position < 150; ++position) {
            std::vector<double> rotated(mean.begin(), mean.end());
            for (size_t i = 0; i < n_pair; ++i) {
                const size_t a = interleaved ? 2 * i : i, b = interleaved ? 2 * i + 1 : i + n_pair;
                const double angle = frequencies[i] * position;
                rotated[a] = mean[a] * std::cos(angle) - mean[b] * std::sin(angle);
                rotated[b] = mean[a] * std::sin(angle) + mean[b] * std::cos(angle);
            }
            for (size_t i = 0; i < dim; ++i) expected += rotated[i] * key[i] / std::sqrt(double(dim)) / 50;
        }
        const ExpectedHead head(std::vector<double>(mean.begin(), mean.end()), std::vector<double>(dim * dim),
                                mean_rotation(frequencies, 100, 50, interleaved));
        float logit = 0;
        head.logits({.data = key.data(), .n_row = 1, .stride = dim}, {&logit, 1});
        EXPECT_NEAR(logit, expected, 1e-5);
    }
}

// R·S·R' as dense matrices, and all row counts around a block.
TEST(ExpectedHead, EqualsTheFormulaInDouble) {
    constexpr size_t dim = 16, n_row = 130, stride = 20;
    const MeanRotation rotation =
        mean_rotation(std::vector<double>{1, 0.4, 0.1, 0.03, 0.01, 0.003, 1e-3, 1e-4}, 7, 12, false);
    QueryMoments moments(dim);
    const std::vector<float> queries = random_floats(50 * dim, 8, 1);
    moments.add({.data = queries.data(), .n_row = 50, .stride = dim});
    const std::vector<double> mean = moments.mean(), covariance = moments.covariance();

    std::vector<double> r(dim * dim), mu(dim), half(dim * dim), sigma(dim * dim);
    for (size_t i = 0; i < dim / 2; ++i) {
        r[i * dim + i] = r[(i + dim / 2) * dim + i + dim / 2] = rotation.cos[i];
        r[i * dim + i + dim / 2] = -rotation.sin[i];
        r[(i + dim / 2) * dim + i] = rotation.sin[i];
    }
    for (size_t i = 0; i < dim; ++i) {
        for (size_t j = 0; j < dim; ++j) {
            mu[i] += r[i * dim + j] * mean[j];
            for (size_t k = 0; k < dim; ++k) half[i * dim + j] += r[i * dim + k] * covariance[k * dim + j];
        }
    }
    for (size_t i = 0; i < dim; ++i) {
        for (size_t j = 0; j < dim; ++j) {
            for (size_t k = 0; k < dim; ++k) sigma[i * dim + j] += half[i * dim + k] * r[j * dim + k];
        }
    }

    const ExpectedHead head(mean, covariance, rotation);
    const std::vector<float> keys = random_floats(n_row * stride, 9);
    for (size_t n : {size_t(0), size_t(1), size_t(63), size_t(64), size_t(65), n_row}) {
        std::vector<float> logits(n_row, -1);
        head.logits({.data = keys.data(), .n_row = int(n), .stride = stride}, logits);
        for (size_t i = 0; i < n; ++i) {
            EXPECT_NEAR(logits[i], naive_logit(mu, sigma, {keys.data() + i * stride, dim}), 1e-4);
        }
        EXPECT_THAT(std::span(logits).subspan(n), Each(-1));
    }
}

// What the method rests on: the mean of exp(q·k/sqrt(d)) over Gaussian queries is exp of the logit.
TEST(ExpectedHead, ForetellsSampledQueries) {
    constexpr size_t dim = 8, n_key = 5, n_sample = 200000;
    std::vector<float> factor = random_floats(dim * dim, 10, 0, 0.3f);  // covariance = factor · factor'
    const std::vector<float> mean = random_floats(dim, 11), keys = random_floats(n_key * dim, 12);
    std::vector<double> covariance(dim * dim), sampled(n_key);
    for (size_t i = 0; i < dim * dim; ++i) {
        for (size_t k = 0; k < dim; ++k) covariance[i] += double(factor[i / dim * dim + k]) * factor[i % dim * dim + k];
    }
    std::mt19937 random(13);
    std::normal_distribution<double> normal;
    for (size_t sample = 0; sample < n_sample; ++sample) {
        std::vector<double> query(mean.begin(), mean.end());
        for (size_t k = 0; k < dim; ++k) {
            const double z = normal(random);
            for (size_t i = 0; i < dim; ++i) query[i] += double(factor[i * dim + k]) * z;
        }
        for (size_t key = 0; key < n_key; ++key) {
            double product = 0;
            for (size_t i = 0; i < dim; ++i) product += query[i] * keys[key * dim + i];
            sampled[key] += std::exp(product / std::sqrt(double(dim))) / double(n_sample);
        }
    }
    const ExpectedHead head(std::vector<double>(mean.begin(), mean.end()), covariance, {});
    std::vector<float> logits(n_key);
    head.logits({.data = keys.data(), .n_row = int(n_key), .stride = dim}, logits);
    for (size_t key = 0; key < n_key; ++key) EXPECT_NEAR(std::exp(logits[key]) / sampled[key], 1, 0.02);
}

TEST(ExpectedScores, AreSharesTimesTheNormOfTheValue) {
    // Two query heads on one cached head; the first column is a sink.
    Scores scores{.n_head = 2,
                  .n_col = 4,
                  .values = {90, std::log(1.0f), std::log(2.0f), std::log(5.0f),  //
                             -7, 1000, 1000, 1000}};
    const std::vector<float> norms = {9, 8, 4, 16};
    Scores with_epsilon = scores;
    expected_scores(scores, 1, norms, 2);
    const std::vector<float> expected = {0, 1, 1, 10, 0, 8 / 3.0f, 4 / 3.0f, 16 / 3.0f};
    for (size_t i = 0; i < expected.size(); ++i) EXPECT_THAT(scores.values[i], FloatEq(expected[i]));
    expected_scores(with_epsilon, 1, norms, 2, 0.5f);
    EXPECT_THAT(with_epsilon.values[1], FloatEq(5));

    Scores only_sinks{.n_head = 1, .n_col = 2, .values = {1, 2}};
    expected_scores(only_sinks, 4, std::vector<float>{1, 1}, 1);
    EXPECT_THAT(only_sinks.values, Each(0));
}

}  // namespace
}  // namespace fastkv
