// The frames of keys that are stored in blocks: what they are, and what they are for.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "engine/key_frame.h"
#include "ggml.h"

namespace fastkv {
namespace {

constexpr int head_dim = 64, n_key = 500;

/// Keys [n_key][head_dim] whose component i has the mean 20·sin(i) and a deviation between 1/4 and 25.
struct Keys {
    std::mt19937 random{7};
    std::normal_distribution<float> normal;
    std::vector<float> deviation, values;

    Keys() {
        for (int i = 0; i < head_dim; ++i) deviation.push_back(std::pow(10.0f, float(i % 7) / 3 - 0.6f));
        for (int i = 0; i < n_key * head_dim; ++i) {
            values.push_back(20 * std::sin(float(i % head_dim)) + deviation[size_t(i % head_dim)] * normal(random));
        }
    }
};

TEST(KeyFrame, LeavesComponentsOfMeanZeroAndEqualSize) {
    const Keys keys;
    HostFrame frame;
    add_frame_of(keys.values, head_dim, frame);
    ASSERT_EQ(frame.offset.size(), size_t(head_dim));
    ASSERT_EQ(frame.scale.size(), size_t(head_dim));
    for (size_t i = 0; i < head_dim; ++i) {
        double sum = 0, fourth = 0;
        for (size_t key = 0; key < n_key; ++key) {
            const double stored = (keys.values[key * head_dim + i] - frame.offset[i]) / frame.scale[i];
            sum += stored / n_key;
            fourth += std::pow(stored, 4) / n_key;
        }
        EXPECT_NEAR(sum, 0, 1e-4) << i;
        EXPECT_NEAR(fourth, 1, 1e-4) << i;
    }
}

TEST(KeyFrame, CanBeDividedByWhereNothingVaries) {
    HostFrame frame;
    add_frame_of(std::vector<float>{3, 1, 3, 5}, 2, frame);  // the first component does not
    add_frame_of(std::vector<float>{3, 1}, 2, frame);        // one key alone
    EXPECT_EQ(frame.offset, (std::vector<float>{3, 3, 3, 1}));
    EXPECT_EQ(frame.scale, (std::vector<float>{2.0f / 256, 2, 1, 1}));
}

/// How far the scores of `query` are from the exact ones, up to what all keys have in common, after the keys have been
/// stored in 4 bits.
double score_error(const std::vector<float>& keys, const HostFrame& frame, const std::vector<float>& query) {
    const ggml_type_traits* q4_0 = ggml_get_type_traits(GGML_TYPE_Q4_0);
    std::vector<double> errors;
    double mean = 0, squares = 0;
    for (size_t key = 0; key < n_key; ++key) {
        float stored[head_dim], read[head_dim];
        std::byte block[head_dim];
        for (size_t i = 0; i < head_dim; ++i) stored[i] = (keys[key * head_dim + i] - frame.offset[i]) / frame.scale[i];
        q4_0->from_float_ref(stored, block, head_dim);
        q4_0->to_float(block, read, head_dim);
        double error = 0;
        for (size_t i = 0; i < head_dim; ++i) {
            error += double(query[i]) * (frame.scale[i] * read[i] - keys[key * head_dim + i]);
        }
        errors.push_back(error);
        mean += error / n_key;
    }
    for (const double error : errors) squares += std::pow(error - mean, 2) / n_key;
    return std::sqrt(squares);
}

/// Where every component counts, those that vary little must not be lost beside those that vary much.
TEST(KeyFrame, KeepsScoresThatSmallComponentsDecide) {
    Keys keys;
    std::vector<float> query;
    for (const float deviation : keys.deviation) query.push_back(keys.normal(keys.random) / deviation);
    HostFrame frame;
    add_frame_of(keys.values, head_dim, frame);
    const HostFrame none{std::vector<float>(head_dim, 0.0f), std::vector<float>(head_dim, 1.0f)};
    EXPECT_LT(score_error(keys.values, frame, query) * 10, score_error(keys.values, none, query));
}

}  // namespace
}  // namespace fastkv
