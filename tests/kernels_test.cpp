// Every CPU kernel against a plain loop in double precision, over shapes that hit each edge: ragged sizes, groups of
// any number of heads, strides, sparse rows, windows, more threads than work, threads one by one and at once.
#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "fastkv/error.h"
#include "kernels/aligned_buffer.h"
#include "kernels/cache_attention.h"
#include "kernels/gemm.h"
#include "kernels/key_scores.h"
#include "kernels/prefill_attention.h"
#include "kernels/quantized_linear.h"
#include "kernels/rope.h"
#include "kernels/simd.h"
#include "kernels/vector_ops.h"

namespace fastkv::kernels {
namespace {

// ---- helpers -------------------------------------------------------------------------------------------------

std::vector<float> random_floats(size_t n, unsigned seed, float scale = 1.0F) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal(0.0F, scale);
    std::vector<float> values(n);
    std::generate(values.begin(), values.end(), [&] { return normal(generator); });
    return values;
}

/// Float16 numbers between 2^-6 and 8, either sign, as their bits.
std::vector<uint16_t> random_halves(size_t n, unsigned seed) {
    std::mt19937 generator(seed);
    std::vector<uint16_t> values(n);
    for (uint16_t& value : values) {
        const uint32_t bits = static_cast<uint32_t>(generator());
        const uint32_t exponent = 9 + (bits >> 11) % 9;
        value = static_cast<uint16_t>((bits & 0x8000U) | exponent << 10 | (bits & 0x3FFU));
    }
    return values;
}

double half_value(uint16_t bits) {
    const double mantissa = 1.0 + (bits & 0x3FFU) / 1024.0;
    const double magnitude = std::ldexp(mantissa, static_cast<int>((bits >> 10) & 0x1FU) - 15);
    return (bits & 0x8000U) != 0 ? -magnitude : magnitude;
}

/// The nearest bf16 number, ties to even.
float to_bf16(float value) {
    uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof(bits));
    bits = (bits + 0x7FFFU + ((bits >> 16) & 1U)) & 0xFFFF0000U;
    std::memcpy(&value, &bits, sizeof(bits));
    return value;
}

enum class Threads { one_by_one, at_once };

void run_threads(int nth, Threads how, const std::function<void(int)>& work) {
    if (how == Threads::one_by_one) {
        for (int ith = 0; ith < nth; ++ith) {
            work(ith);
        }
        return;
    }
    std::vector<std::thread> threads;
    threads.reserve(static_cast<size_t>(nth));
    for (int ith = 0; ith < nth; ++ith) {
        threads.emplace_back(work, ith);
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
}

/// A kernel whose threads take its work in pieces.
void run_team(int nth, Threads how, const std::function<void(Team&)>& work) {
    Team team(nth);
    run_threads(nth, how, [&](int) { work(team); });
}

/// K or V of one layer in memory of any type, with gaps between rows and heads, and what its numbers stand for.
struct Kv {
    KvType type = KvType::f16;
    int n_head = 0;
    int n_row = 0;
    int dim = 0;
    size_t row_stride = 0;
    size_t head_stride = 0;
    std::vector<std::byte> bytes;
    std::vector<double> values;  // [n_head][n_row][dim]

    Kv(KvType kv_type, int heads, int rows, int head_dim, unsigned seed, bool rows_outermost, float scale = 1.0F)
        : type(kv_type), n_head(heads), n_row(rows), dim(head_dim) {
        // Either [row][head][dim] with a gap behind each row, or [head][row][dim].
        constexpr size_t gap = 12;
        const size_t row_size = kv_row_size(type, dim);
        row_stride = rows_outermost ? static_cast<size_t>(heads) * row_size + gap : row_size;
        head_stride = rows_outermost ? row_size : static_cast<size_t>(rows) * row_size;
        bytes.resize(static_cast<size_t>(rows) * (static_cast<size_t>(heads) * row_size + gap));
        values.resize(static_cast<size_t>(heads * rows * head_dim));
        for (int head = 0; head < heads; ++head) {
            for (int row = 0; row < rows; ++row) {
                const size_t index = static_cast<size_t>(head * rows + row);
                fill_row(&bytes[static_cast<size_t>(head) * head_stride + static_cast<size_t>(row) * row_stride],
                         &values[index * static_cast<size_t>(dim)], seed * 1000003U + static_cast<unsigned>(index),
                         scale);
            }
        }
    }

    double at(int head, int row, int i) const { return values[static_cast<size_t>((head * n_row + row) * dim + i)]; }

    KvView view() const { return {bytes.data(), type, row_stride, head_stride}; }

  private:
    void fill_row(std::byte* target, double* value, unsigned seed, float scale) const {
        const auto n = static_cast<size_t>(dim);
        if (type == KvType::f32) {
            const std::vector<float> floats = random_floats(n, seed, scale);
            std::memcpy(target, floats.data(), n * sizeof(float));
            std::copy(floats.begin(), floats.end(), value);
        } else if (type == KvType::f16) {
            const std::vector<uint16_t> halves = random_halves(n, seed);
            std::memcpy(target, halves.data(), n * sizeof(uint16_t));
            std::transform(halves.begin(), halves.end(), value, half_value);
        } else {
            fill_blocks(target, value, seed);
        }
    }

    /// A scale between 2^-6 and 2^-5 (q5_0: 2^-3 and 2^-2, q4_0: 2^-2 and 2^-1), then 32 integers of 8, 5 or 4 bits.
    void fill_blocks(std::byte* target, double* value, unsigned seed) const {
        std::mt19937 generator(seed);
        const unsigned exponent = type == KvType::q8_0 ? 9 : type == KvType::q5_0 ? 12 : 13;
        for (int i = 0; i < dim; i += 32, value += 32) {
            const auto d = static_cast<uint16_t>(exponent << 10 | (generator() & 0x3FFU));
            std::memcpy(target, &d, sizeof(d));
            target += sizeof(d);
            const auto fifth = type == KvType::q5_0 ? static_cast<uint32_t>(generator()) : 0;
            if (type == KvType::q5_0) {
                std::memcpy(target, &fifth, sizeof(fifth));
                target += sizeof(fifth);
            }
            const auto small = [&](int half, int j) {
                return type == KvType::q4_0 ? half - 8 : half + static_cast<int>(fifth >> j & 1U) * 16 - 16;
            };
            for (int j = 0; j < (type == KvType::q8_0 ? 32 : 16); ++j, ++target) {
                const auto byte = static_cast<uint8_t>(generator() & 0xFFU);
                *target = static_cast<std::byte>(byte);
                value[j] = half_value(d) * (type == KvType::q8_0 ? static_cast<int8_t>(byte) : small(byte % 16, j));
                if (type != KvType::q8_0) value[j + 16] = half_value(d) * small(byte / 16, j + 16);
            }
        }
    }
};

/// Runs `check` with every set of vector instructions that was compiled and that this processor has.
void on_every_target(const std::function<void()>& check) {
    for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
        hwy::SetSupportedTargetsForTest(target);
        hwy::GetChosenTarget().Update(hwy::SupportedTargets());
        SCOPED_TRACE(simd_target());
        check();
        if (testing::Test::HasFatalFailure()) {
            break;
        }
    }
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

/// Attention of one query head over those of the rows from first_row on that `sees` admits, in double precision.
struct Attention {
    std::vector<double> out;
    std::vector<double> weights;  // of the rows, 0 for hidden ones
    double max_value = 0;         ///< largest |v| that takes part
    double max_score_sum = 0;     ///< largest scale·Σ|q·k|, what rounding errors of scores are relative to
};

Attention attend(const float* q, const Kv& k, const Kv& v, int head_kv, int first_row, int n_row, double scale,
                 const std::function<bool(int)>& sees) {
    Attention result;
    result.out.assign(static_cast<size_t>(k.dim), 0.0);
    std::vector<double> scores(static_cast<size_t>(n_row), -std::numeric_limits<double>::infinity());
    double max = -std::numeric_limits<double>::infinity();
    for (int j = 0; j < n_row; ++j) {
        if (!sees(j)) {
            continue;
        }
        double dot = 0;
        double magnitude = 0;
        for (int i = 0; i < k.dim; ++i) {
            dot += static_cast<double>(q[i]) * k.at(head_kv, first_row + j, i);
            magnitude += std::abs(static_cast<double>(q[i]) * k.at(head_kv, first_row + j, i));
            result.max_value = std::max(result.max_value, std::abs(v.at(head_kv, first_row + j, i)));
        }
        scores[static_cast<size_t>(j)] = dot * scale;
        max = std::max(max, dot * scale);
        result.max_score_sum = std::max(result.max_score_sum, magnitude * scale);
    }
    double sum = 0;
    for (int j = 0; j < n_row; ++j) {
        const double p = std::exp(scores[static_cast<size_t>(j)] - max);
        sum += p;
        for (int i = 0; p > 0 && i < k.dim; ++i) {
            result.out[static_cast<size_t>(i)] += p * v.at(head_kv, first_row + j, i);
        }
    }
    for (double& value : result.out) {
        value /= sum;
    }
    for (const double score : scores) {
        result.weights.push_back(std::exp(score - max) / sum);
    }
    return result;
}

/// Outputs are weighted means of values. With every score off by at most δ, weights are off by a factor within
/// e^(±2δ), so a mean is off by at most (e^(2δ) - 1)·max|v|; rounding weights and values adds a relative error each.
/// In float32 a score of Σ|q·k| = s is off by a few units of 2^-24·s: 1e-6·s leaves a wide margin for 256 terms.
/// In bf16, q and k are rounded with unit roundoff u = 2^-9 each: δ = 2.01·u·s; probabilities (to nearest, ties up)
/// and values with u each.
double tolerance(GemmType type, const Attention& reference) {
    const double u = std::ldexp(1.0, -9);
    const double score_error =
        (type == GemmType::bf16 ? 2.01 * u : 0.0) * reference.max_score_sum + 1e-6 * reference.max_score_sum;
    const double rounding = type == GemmType::bf16 ? 2.01 * u : 0.0;
    return (std::expm1(2 * score_error) + rounding + 2e-6) * reference.max_value;
}

// ---- stored rows ---------------------------------------------------------------------------------------------

TEST(KvRow, HasTheSizeOfItsType) {
    EXPECT_EQ(kv_row_size(KvType::f32, 20), 80U);
    EXPECT_EQ(kv_row_size(KvType::f16, 20), 40U);
    EXPECT_EQ(kv_row_size(KvType::q8_0, 32), 34U);
    EXPECT_EQ(kv_row_size(KvType::q8_0, 128), 136U);
    EXPECT_EQ(kv_row_size(KvType::q5_0, 128), 88U);
    EXPECT_EQ(kv_row_size(KvType::q4_0, 128), 72U);
}

TEST(KvRow, ConvertsFromEveryType) {
    for (const KvType type : {KvType::f32, KvType::f16, KvType::q8_0, KvType::q5_0, KvType::q4_0}) {
        for (const int dim : {32, 96, 20}) {
            if (is_quantized(type) && dim % 32 != 0) {
                continue;
            }
            const Kv kv(type, 1, 1, dim, 7, false);
            const auto n_padded = static_cast<size_t>(dim) + 12;
            on_every_target([&] {
                std::vector<float> floats(n_padded, -1.0F);
                convert_kv_row(kv.bytes.data(), type, dim, GemmType::f32, floats.data(), dim + 12);
                std::vector<uint16_t> shorts(n_padded, 1);
                convert_kv_row(kv.bytes.data(), type, dim, GemmType::bf16, shorts.data(), dim + 12);
                for (size_t i = 0; i < n_padded; ++i) {
                    // Scale times integer: 11 and 7 bits, exact in float32.
                    const auto expected = i < static_cast<size_t>(dim) ? static_cast<float>(kv.values[i]) : 0.0F;
                    ASSERT_EQ(floats[i], expected) << i;
                    const uint32_t bits = uint32_t{shorts[i]} << 16;
                    float value = 0;
                    std::memcpy(&value, &bits, sizeof(value));
                    ASSERT_EQ(value, to_bf16(expected)) << i;
                }
            });
        }
    }
}

// ---- linear --------------------------------------------------------------------------------------------------

/// Hands out the rows of W [n][k].
PackedWeights::ReadRow rows_of(const std::vector<float>& w, int k) {
    return [&w, k](int row, float* values) { std::copy_n(w.begin() + std::ptrdiff_t(row) * k, k, values); };
}

struct LinearCase {
    int m, n, k, nth;
    Threads how;
};

class Linear : public testing::TestWithParam<std::tuple<GemmType, LinearCase>> {};

TEST_P(Linear, EqualsPlainLoop) {
    const auto [type, shape] = GetParam();
    const auto [m, n, k, nth, how] = shape;
    if (!gemm_available(type)) {
        GTEST_SKIP() << "no products of this type here";
    }
    const size_t x_stride = static_cast<size_t>(k) + 5;
    const size_t y_stride = static_cast<size_t>(n) + 7;
    const std::vector<float> w = random_floats(static_cast<size_t>(n) * static_cast<size_t>(k), 1);
    const std::vector<float> x = random_floats(static_cast<size_t>(m) * x_stride, 2);
    constexpr float untouched = -12345.0F;
    std::vector<float> y(static_cast<size_t>(m) * y_stride, untouched);

    PackedWeights packed(type, n, k);
    EXPECT_EQ(packed.n(), n);
    EXPECT_EQ(packed.k(), k);
    EXPECT_GE(packed.bytes(), static_cast<size_t>(n) * static_cast<size_t>(k) * gemm_type_size(type));
    run_threads(nth, how, [&, threads = nth](int ith) {
        for (int slab = ith; slab < packed.n_slab(); slab += threads) {
            packed.pack_slab(slab, rows_of(w, packed.k()));
        }
    });
    run_team(nth, how,
             [&, rows = m](Team& team) { linear(packed, x.data(), x_stride, y.data(), y_stride, rows, team); });

    // Products of two bf16 numbers are exact in float32: only their sum rounds.
    const auto rounded = [t = type](float value) {
        return static_cast<double>(t == GemmType::bf16 ? to_bf16(value) : value);
    };
    for (int i = 0; i < m; i += std::max(1, m / 37)) {
        for (int j = 0; j < n; ++j) {
            double sum = 0;
            double magnitude = 0;
            for (int l = 0; l < k; ++l) {
                const double term =
                    rounded(x[static_cast<size_t>(i) * x_stride + static_cast<size_t>(l)]) *
                    rounded(w[static_cast<size_t>(j) * static_cast<size_t>(k) + static_cast<size_t>(l)]);
                sum += term;
                magnitude += std::abs(term);
            }
            ASSERT_NEAR(y[static_cast<size_t>(i) * y_stride + static_cast<size_t>(j)], sum,
                        gemm_rounding(type) * magnitude + 1e-12)
                << "row " << i << " column " << j;
        }
    }
    for (int i = 0; i < m; ++i) {
        for (size_t j = static_cast<size_t>(n); j < y_stride; ++j) {
            ASSERT_EQ(y[static_cast<size_t>(i) * y_stride + j], untouched) << "wrote between rows";
        }
        ASSERT_TRUE(std::none_of(&y[static_cast<size_t>(i) * y_stride], &y[static_cast<size_t>(i) * y_stride] + n,
                                 [](float value) { return value == untouched; }))
            << "row " << i << " is incomplete";
    }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Linear,
                         testing::Combine(testing::Values(GemmType::f32, GemmType::bf16),
                                          testing::Values(LinearCase{1, 1, 1, 1, Threads::one_by_one},
                                                          LinearCase{1, 64, 32, 3, Threads::one_by_one},
                                                          LinearCase{3, 100, 20, 2, Threads::at_once},
                                                          LinearCase{16, 256, 64, 1, Threads::one_by_one},
                                                          LinearCase{17, 257, 65, 2, Threads::at_once},
                                                          LinearCase{129, 192, 576, 2, Threads::at_once},
                                                          LinearCase{300, 576, 96, 3, Threads::one_by_one},
                                                          LinearCase{512, 70, 33, 3, Threads::at_once},
                                                          LinearCase{40, 300, 1100, 2, Threads::at_once},
                                                          LinearCase{20, 64, 3104, 2, Threads::one_by_one})));

TEST(LinearBf16, RoundsToNearestEven) {
    if (!gemm_available(GemmType::bf16)) {
        GTEST_SKIP() << "no bf16 products here";
    }
    // 1 + 2^-8 lies halfway between bf16's 1 and 1 + 2^-7; 1 + 3·2^-8 halfway between 1 + 2^-7 and 1 + 2^-6.
    const std::vector<float> inputs = {1.00390625F, 1.01171875F, -1.00390625F, 1.0039064F};
    const std::vector<float> expected = {1.0F, 1.015625F, -1.0F, 1.0078125F};
    PackedWeights packed(GemmType::bf16, 1, 1);
    packed.pack_slab(0, [](int, float* values) { values[0] = 1.0F; });
    std::vector<float> y(inputs.size());
    const auto alone = [](const std::function<void(Team&)>& work) { run_team(1, Threads::one_by_one, work); };
    alone([&](Team& team) { linear(packed, inputs.data(), 1, y.data(), 1, static_cast<int>(inputs.size()), team); });
    EXPECT_EQ(y, expected);
    // Whole vectors take another path than single values.
    std::vector<float> identity(64 * 64, 0.0F);
    for (size_t i = 0; i < 64; ++i) {
        identity[i * 64 + i] = 1.0F;
    }
    PackedWeights square(GemmType::bf16, 64, 64);
    square.pack_slab(0, rows_of(identity, 64));
    std::vector<float> x(64);
    std::vector<float> out(64);
    for (size_t i = 0; i < 64; ++i) {
        x[i] = inputs[i % 4];
    }
    alone([&](Team& team) { linear(square, x.data(), 64, out.data(), 64, 1, team); });
    for (size_t i = 0; i < 64; ++i) {
        EXPECT_EQ(out[i], expected[i % 4]) << i;
    }
}

/// x / sqrt(mean(x²) + eps) · weight.
std::vector<double> normalized(const float* x, int k, const std::vector<float>& weight, double eps) {
    double squares = 0;
    for (int i = 0; i < k; ++i) squares += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    std::vector<double> y;
    for (int i = 0; i < k; ++i) {
        y.push_back(static_cast<double>(x[i]) / std::sqrt(squares / k + eps) *
                    static_cast<double>(weight[static_cast<size_t>(i)]));
    }
    return y;
}

PackedWeights packed_weights(GemmType type, int n, int k, const std::vector<float>& w, bool reads_hidden = false) {
    PackedWeights packed(type, n, k, reads_hidden);
    for (int slab = 0; slab < packed.n_slab(); ++slab) packed.pack_slab(slab, rows_of(w, k));
    return packed;
}

/// x [n] squared and summed, to the square root.
double length(const float* x, int n) {
    double sum = 0;
    for (int i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    return std::sqrt(sum);
}

/// Row `row` of W times x.
double product(const std::vector<float>& w, int row, const std::vector<double>& x) {
    double sum = 0;
    for (size_t i = 0; i < x.size(); ++i) sum += static_cast<double>(w[static_cast<size_t>(row) * x.size() + i]) * x[i];
    return sum;
}

class LinearInt8 : public testing::TestWithParam<LinearCase> {};

TEST_P(LinearInt8, IsWithinRoundingOfAPlainLoop) {
    if (!gemm_available(GemmType::int8)) GTEST_SKIP() << "no products of 8-bit integers here";
    const auto [m, n, k, nth, how] = GetParam();
    const auto w = random_floats(static_cast<size_t>(n) * static_cast<size_t>(k), 1);
    auto x = random_floats(static_cast<size_t>(m) * static_cast<size_t>(k), 2);
    // every row has one value that is ten times the others: without the rotation they would be kept to 3 bits
    for (int i = 0; i < m; ++i) x[static_cast<size_t>(i * k + k / 3)] *= 10;
    const PackedWeights packed = packed_weights(GemmType::int8, n, k, w);
    std::vector<float> y(static_cast<size_t>(m) * static_cast<size_t>(n), -12345.0F);
    run_team(nth, how, [&, rows = m, cols = n, values = k](Team& team) {
        linear(packed, x.data(), static_cast<size_t>(values), y.data(), static_cast<size_t>(cols), rows, team);
    });
    double squares = 0;
    for (int i = 0; i < m; ++i) {
        const float* row = &x[static_cast<size_t>(i * k)];
        const std::vector<double> exact(row, row + k);
        for (int j = 0; j < n; ++j) {
            const double magnitude = length(row, k) * length(&w[static_cast<size_t>(j * k)], k);
            const double error = static_cast<double>(y[static_cast<size_t>(i * n + j)]) - product(w, j, exact);
            ASSERT_LT(std::abs(error) * std::sqrt(k), 0.1 * magnitude + 1e-6) << "row " << i << " column " << j;
            squares += error * error / (magnitude * magnitude);
        }
    }
    EXPECT_LT(std::sqrt(squares / (m * n) * k), 0.02);  // relative to a product of independent numbers
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, LinearInt8,
    testing::Values(LinearCase{1, 1, 1, 1, Threads::one_by_one}, LinearCase{1, 64, 32, 3, Threads::one_by_one},
                    LinearCase{16, 256, 64, 1, Threads::one_by_one}, LinearCase{17, 257, 65, 2, Threads::at_once},
                    LinearCase{129, 192, 576, 2, Threads::at_once}, LinearCase{300, 70, 900, 3, Threads::at_once},
                    LinearCase{40, 300, 1100, 2, Threads::at_once}, LinearCase{20, 64, 3104, 2, Threads::one_by_one}));

/// Rows, n, n_ff, threads; how far bf16 may be from exact numbers of about 1.
class LayerEndOf : public testing::TestWithParam<std::tuple<GemmType, LinearCase>> {};

TEST_P(LayerEndOf, EqualsPlainLoop) {
    const auto [type, shape] = GetParam();
    const auto [m, n, n_ff, nth, how] = shape;
    if (!gemm_available(type)) {
        GTEST_SKIP() << "no products of this type here";
    }
    const int k_a = n + 40;
    const auto random_matrix = [](int rows, int k, int seed) {
        return random_floats(static_cast<size_t>(rows * k), seed, 1.0F / std::sqrt(static_cast<float>(k)));
    };
    const auto output = random_matrix(n, k_a, 6);
    const auto gate = random_matrix(n_ff, n, 1), up = random_matrix(n_ff, n, 2), down = random_matrix(n, n_ff, 3);
    const auto norm = random_floats(static_cast<size_t>(n), 4);
    const size_t stride = static_cast<size_t>(n) + 3, a_stride = static_cast<size_t>(k_a) + 5;
    auto before = random_floats(static_cast<size_t>(m) * stride, 5);
    for (int i = 0; i < m; ++i) before[static_cast<size_t>(i) * stride + static_cast<size_t>(n)] = -12345.0F;
    const auto a = random_floats(static_cast<size_t>(m) * a_stride, 7);
    const PackedWeights packed_output = packed_weights(type, n, k_a, output);
    const PackedWeights packed_gate = packed_weights(type, n_ff, n, gate);
    const PackedWeights packed_up = packed_weights(type, n_ff, n, up);
    const PackedWeights packed_down = packed_weights(type, n, n_ff, down, true);
    const LayerEnd layer{&packed_output, {a.data(), a_stride}, {norm.data(), 1e-5F},
                         &packed_gate,   &packed_up,           &packed_down};
    auto x = before;
    run_team(nth, how, [&, rows = m](Team& team) { end_layer(layer, {x.data(), stride}, rows, team); });

    const double allowed = type == GemmType::f32 ? 2e-5 : type == GemmType::bf16 ? 0.06 : 0.25;
    for (int i = 0; i < m; i += std::max(1, m / 13)) {
        const float* a_row = &a[static_cast<size_t>(i) * a_stride];
        const std::vector<double> attention(a_row, a_row + k_a);
        std::vector<float> middle(&before[static_cast<size_t>(i) * stride],
                                  &before[static_cast<size_t>(i) * stride] + n);
        for (int j = 0; j < n; ++j) middle[static_cast<size_t>(j)] += static_cast<float>(product(output, j, attention));
        const auto h = normalized(middle.data(), n, norm, 1e-5);
        std::vector<double> hidden;
        for (int j = 0; j < n_ff; ++j) {
            const double g = product(gate, j, h);
            hidden.push_back(g / (1 + std::exp(-g)) * product(up, j, h));
        }
        for (int j = 0; j < n; ++j) {
            const size_t at = static_cast<size_t>(i) * stride + static_cast<size_t>(j);
            const double expected = static_cast<double>(middle[static_cast<size_t>(j)]) + product(down, j, hidden);
            ASSERT_NEAR(x[at], expected, allowed) << i << " " << j;
        }
        ASSERT_EQ(x[static_cast<size_t>(i) * stride + static_cast<size_t>(n)], -12345.0F) << "wrote between rows";
    }
}

INSTANTIATE_TEST_SUITE_P(Shapes, LayerEndOf,
                         testing::Combine(testing::Values(GemmType::f32, GemmType::bf16, GemmType::int8),
                                          testing::Values(LinearCase{1, 64, 96, 2, Threads::one_by_one},
                                                          LinearCase{50, 96, 300, 3, Threads::at_once},
                                                          LinearCase{300, 72, 270, 2, Threads::at_once},
                                                          LinearCase{70, 64, 1700, 2, Threads::at_once})));

TEST(Linears, NormaliseOnceAndAddTheirBias) {
    for (const GemmType type : {GemmType::f32, GemmType::bf16, GemmType::int8}) {
        if (!gemm_available(type)) continue;
        constexpr int m = 37, k = 80, n_first = 70, n_second = 300;
        const auto x = random_floats(m * k, 1);
        const auto norm = random_floats(k, 2);
        const auto w_first = random_floats(n_first * k, 3, 0.1F);
        const auto w_second = random_floats(n_second * k, 4, 0.1F);
        const auto bias = random_floats(n_second, 5);
        const PackedWeights first = packed_weights(type, n_first, k, w_first);
        const PackedWeights second = packed_weights(type, n_second, k, w_second);
        std::vector<float> y_first(m * n_first), y_second(m * n_second);
        const LinearOutput outputs[] = {{&first, nullptr, {y_first.data(), n_first}},
                                        {&second, bias.data(), {y_second.data(), n_second}}};
        run_team(2, Threads::at_once, [&](Team& team) {
            linear(outputs, {norm.data(), 1e-5F}, {x.data(), k}, m, team);
        });
        const double allowed = type == GemmType::f32 ? 1e-5 : type == GemmType::bf16 ? 0.05 : 0.1;
        for (int i = 0; i < m; ++i) {
            const auto h = normalized(&x[static_cast<size_t>(i * k)], k, norm, 1e-5);
            for (int j = 0; j < n_first; ++j) {
                ASSERT_NEAR(y_first[static_cast<size_t>(i * n_first + j)], product(w_first, j, h), allowed)
                    << i << " " << j;
            }
            for (int j = 0; j < n_second; ++j) {
                const double expected = static_cast<double>(bias[static_cast<size_t>(j)]) + product(w_second, j, h);
                ASSERT_NEAR(y_second[static_cast<size_t>(i * n_second + j)], expected, allowed) << i << " " << j;
            }
        }
    }
}

TEST(Linears, HandRowsToTheThreadThatComputedThem) {
    for (const GemmType type : {GemmType::f32, GemmType::bf16, GemmType::int8}) {
        if (!gemm_available(type)) continue;
        constexpr int m = 143, k = 80, n_first = 70, n_second = 300, n_third = 64;
        const auto x = random_floats(m * k, 1);
        const PackedWeights first = packed_weights(type, n_first, k, random_floats(n_first * k, 2, 0.1F));
        const PackedWeights second = packed_weights(type, n_second, k, random_floats(n_second * k, 3, 0.1F));
        const PackedWeights third = packed_weights(type, n_third, k, random_floats(n_third * k, 4, 0.1F));
        const auto bias = random_floats(n_third, 5);
        std::vector<float> whole[] = {std::vector<float>(m * n_first), std::vector<float>(m * n_second),
                                      std::vector<float>(m * n_third)};
        run_team(2, Threads::at_once, [&](Team& team) {
            const LinearOutput outputs[] = {{&first, nullptr, {whole[0].data(), n_first}},
                                            {&second, nullptr, {whole[1].data(), n_second}},
                                            {&third, bias.data(), {whole[2].data(), n_third}}};
            linear(outputs, {}, {x.data(), k}, m, team);
        });
        std::vector<float> again[] = {std::vector<float>(m * n_first), std::vector<float>(m * n_second),
                                      std::vector<float>(m * n_third)};
        std::vector<int> times(m);  // threads have rows of their own
        run_team(2, Threads::at_once, [&](Team& team) {
            const LinearOutput outputs[] = {
                {&first, nullptr, {}}, {&second, nullptr, {again[1].data(), n_second}}, {&third, bias.data(), {}}};
            linear(outputs, {}, {x.data(), k}, m, team, [&](int begin, int n, std::span<const Rows> y) {
                ASSERT_EQ(y.size(), 3U);
                for (int i = 0; i < n; ++i) {
                    ++times[static_cast<size_t>(begin + i)];
                    for (const size_t o : {size_t{0}, size_t{2}}) {
                        const float* row = y[o].data + static_cast<size_t>(i) * y[o].stride;
                        std::copy(row, row + y[o].stride,
                                  again[o].begin() +
                                      static_cast<std::ptrdiff_t>(static_cast<size_t>(begin + i) * y[o].stride));
                    }
                }
                EXPECT_EQ(y[1].data, again[1].data() + static_cast<size_t>(begin) * n_second);
            });
        });
        EXPECT_EQ(times, std::vector<int>(m, 1));
        for (int o = 0; o < 3; ++o) EXPECT_EQ(again[o], whole[o]) << o;
    }
}

TEST(StoredRows, AreTheNumbersOrTheNearestFloat16) {
    for (const int n : {1, 7, 16, 64, 83}) {
        const auto values = random_floats(static_cast<size_t>(n), n, 3.0F);
        std::vector<float> exact(values.size()), back(values.size() + 16);
        store_kv_row(values.data(), n, KvType::f32, exact.data());
        EXPECT_EQ(exact, values);
        std::vector<uint16_t> halves(values.size() + 1, 0x1234);
        store_kv_row(values.data(), n, KvType::f16, halves.data());
        EXPECT_EQ(halves.back(), 0x1234) << "wrote behind the row";
        convert_kv_row(halves.data(), KvType::f16, n, GemmType::f32, back.data(), n);
        for (size_t i = 0; i < values.size(); ++i) {
            EXPECT_NEAR(back[i], values[i], std::ldexp(std::abs(values[i]), -11)) << i;
            std::vector<uint16_t> again(1);
            store_kv_row(&back[i], 1, KvType::f16, again.data());
            EXPECT_EQ(again[0], halves[i]);
        }
    }
    // halfway between two float16: to the even one
    const float ties[] = {1.0F + std::ldexp(1.0F, -11), 1.0F + 3 * std::ldexp(1.0F, -11)};
    uint16_t halves[2];
    store_kv_row(ties, 2, KvType::f16, halves);
    EXPECT_EQ(halves[0], 0x3C00);
    EXPECT_EQ(halves[1], 0x3C02);
}

// ---- a row times weights as files store them ----------------------------------------------------------------------

/// A matrix of random blocks, and the numbers that they stand for by ggml's definition of the types.
struct Blocks {
    std::vector<uint8_t> bytes;
    std::vector<float> values;  // [n][k]

    Blocks(BlockType type, int n, int k, unsigned seed) : generator_(seed) {
        for (int block = 0; block < n * k / block_size(type); ++block) {
            block_size(type) == 32 ? add_small(type) : add_large(type);
        }
    }

  private:
    void add_small(BlockType type) {
        const uint16_t d = small_half(0x2000U), m = small_half(0x3000U);
        const std::vector<uint8_t> data = random_bytes(type == BlockType::q8_0 ? 32 : 16);
        const auto fifth = static_cast<uint32_t>(generator_());
        append(d);
        if (type == BlockType::q4_1) append(m);
        if (type == BlockType::q5_0) append(fifth);
        bytes.insert(bytes.end(), data.begin(), data.end());
        for (size_t i = 0; i < 32; ++i) {
            const uint8_t byte = data[type == BlockType::q8_0 ? i : i % 16];
            const int nibble = i < 16 ? byte & 15 : byte >> 4;
            const int high = static_cast<int>(fifth >> i & 1U);
            double value = 0;
            switch (type) {
                case BlockType::q4_0: value = half_value(d) * (nibble - 8); break;
                case BlockType::q4_1: value = half_value(d) * nibble + half_value(m); break;
                case BlockType::q5_0: value = half_value(d) * (nibble + 16 * high - 16); break;
                default: value = half_value(d) * static_cast<int8_t>(byte); break;
            }
            values.push_back(static_cast<float>(value));
        }
    }

    void add_large(BlockType type) {
        const uint16_t d = small_half(0x1800U), m = small_half(0x1800U);
        const std::vector<uint8_t> factors = random_bytes(type == BlockType::q6_k ? 16 : 12);
        const std::vector<uint8_t> bits = random_bytes(type == BlockType::q4_k ? 0 : type == BlockType::q5_k ? 32 : 64);
        const std::vector<uint8_t> data = random_bytes(128);
        const auto add = [&](const std::vector<uint8_t>& part) { bytes.insert(bytes.end(), part.begin(), part.end()); };
        if (type == BlockType::q6_k) {
            add(data), add(bits), add(factors), append(d);
            for (size_t i = 0; i < 256; ++i) values.push_back(float(half_value(d) * six_bits(data, bits, factors, i)));
            return;
        }
        append(d), append(m), add(factors), add(bits), add(data);
        for (size_t i = 0; i < 256; ++i) {
            const size_t block = i / 32;
            const uint8_t byte = data[i / 64 * 32 + i % 32];
            const int high = type == BlockType::q5_k ? bits[i % 32] >> block & 1 : 0;
            const int u = (block % 2 == 0 ? byte & 15 : byte >> 4) + 16 * high;
            const auto [scale, minimum] = six_bit_factors(factors, block);
            values.push_back(float(half_value(d) * scale * u - half_value(m) * minimum));
        }
    }

    /// The scale and the minimum of one of the eight blocks of Q4_K and Q5_K.
    static std::pair<int, int> six_bit_factors(const std::vector<uint8_t>& f, size_t block) {
        if (block < 4) return {f[block] & 63, f[block + 4] & 63};
        return {(f[block + 4] & 15) | (f[block - 4] >> 6) << 4, f[block + 4] >> 4 | (f[block] >> 6) << 4};
    }

    /// Value i of a Q6_K block, without d.
    static int six_bits(const std::vector<uint8_t>& data, const std::vector<uint8_t>& bits,
                        const std::vector<uint8_t>& factors, size_t i) {
        const size_t half = i / 128, block = i % 128 / 32, j = i % 32;
        const uint8_t byte = data[half * 64 + block % 2 * 32 + j];
        const int low = block < 2 ? byte & 15 : byte >> 4;
        const int high = bits[half * 32 + j] >> 2 * block & 3;
        return static_cast<int8_t>(factors[i / 16]) * ((low | high << 4) - 32);
    }

    uint16_t small_half(unsigned exponent) {
        return static_cast<uint16_t>(exponent | (generator_() & 0x3FFU) | (generator_() & 1U) << 15);
    }

    std::vector<uint8_t> random_bytes(size_t n) {
        std::vector<uint8_t> data(n);
        for (uint8_t& byte : data) byte = static_cast<uint8_t>(generator_());
        return data;
    }

    template <class T>
    void append(T value) {
        bytes.resize(bytes.size() + sizeof(T));
        std::memcpy(bytes.data() + bytes.size() - sizeof(T), &value, sizeof(T));
    }

    std::mt19937 generator_;
};

/// x as the kernel rounds it: blocks of 32 in 8 bits.
std::vector<double> in_eight_bits(const std::vector<float>& x) {
    std::vector<double> rounded;
    for (size_t i = 0; i < x.size(); i += 32) {
        float largest = 0;
        for (size_t j = i; j < i + 32; ++j) largest = std::max(largest, std::abs(x[j]));
        const float inverse = largest > 0 ? 127.0F / largest : 0.0F;
        for (size_t j = i; j < i + 32; ++j) {
            rounded.push_back(static_cast<double>(std::nearbyint(x[j] * inverse)) * static_cast<double>(largest / 127));
        }
    }
    return rounded;
}

const auto small_blocks = testing::Values(BlockType::q4_0, BlockType::q4_1, BlockType::q5_0, BlockType::q8_0);
const auto large_blocks = testing::Values(BlockType::q4_k, BlockType::q5_k, BlockType::q6_k);

class WidenedRow : public testing::TestWithParam<std::tuple<BlockType, std::pair<int, int>>> {};

TEST_P(WidenedRow, HoldsTheValuesOfItsBlocks) {
    if (!quantized_available()) {
        GTEST_SKIP() << "no VNNI here";
    }
    const auto [type, size] = GetParam();
    const auto [n, k] = size;
    const Blocks blocks(type, n, k, 11);
    const QuantizedMatrix matrix{type, blocks.bytes.data(), n, k};
    constexpr float untouched = -12345.0F;
    for (int row = 0; row < n; ++row) {
        std::vector<float> values(static_cast<size_t>(k) + 1, untouched);
        widen_row(matrix, row, values.data());
        const auto expected = blocks.values.begin() + std::ptrdiff_t(row) * k;
        ASSERT_TRUE(std::equal(expected, expected + k, values.begin())) << "row " << row;
        ASSERT_EQ(values.back(), untouched);
    }
}

INSTANTIATE_TEST_SUITE_P(Types, WidenedRow,
                         testing::Combine(small_blocks,
                                          testing::Values(std::pair{3, 64}, std::pair{5, 576}, std::pair{3, 1536})));
INSTANTIATE_TEST_SUITE_P(KQuants, WidenedRow,
                         testing::Combine(large_blocks, testing::Values(std::pair{3, 256}, std::pair{5, 768})));

/// Whatever the cut, every step is taken once, in pieces of the sizes that it allows.
TEST(Team, TakesEveryStepOnce) {
    std::mt19937 random(1);
    const auto up_to = [&](int most) { return static_cast<int>(random() % static_cast<unsigned>(most)) + 1; };
    for (int i = 0; i < 200; ++i) {
        const int multiple = up_to(5), nth = up_to(4);
        const Cut cut{up_to(500), multiple * up_to(4), multiple * up_to(30) + 4 * multiple, multiple};
        std::vector<std::atomic<int>> taken(static_cast<size_t>(cut.n));
        run_team(nth, Threads::at_once, [&](Team& team) {
            while (const Piece piece = team.take(cut)) {
                const int size = piece.end - piece.begin;
                EXPECT_TRUE(piece.end == cut.n || (size >= cut.smallest && size % multiple == 0)) << size;
                EXPECT_TRUE(piece.begin == 0 || 2 * size >= multiple) << size;
                EXPECT_TRUE(piece.end == cut.n || size <= cut.largest) << size;
                EXPECT_LT(2 * size, 2 * cut.largest + multiple);
                for (int step = piece.begin; step < piece.end; ++step) ++taken[static_cast<size_t>(step)];
            }
        });
        ASSERT_TRUE(std::all_of(taken.begin(), taken.end(), [](const auto& times) { return times == 1; })) << i;
    }
}

class RowTimes : public testing::TestWithParam<std::tuple<BlockType, std::pair<int, int>>> {};

TEST_P(RowTimes, EqualsPlainLoop) {
    if (!quantized_available()) {
        GTEST_SKIP() << "no VNNI here";
    }
    const auto [type, size] = GetParam();
    const auto [n, k] = size;
    const Blocks blocks(type, n, k, 7);
    auto x = random_floats(static_cast<size_t>(k), 8);
    std::fill(x.begin() + 32, x.begin() + 64, 0.0F);  // a block without a scale
    const auto base = random_floats(static_cast<size_t>(n), 9);
    std::vector<float> y(static_cast<size_t>(n), -12345.0F);
    const QuantizedOutput output{{type, blocks.bytes.data(), n, k}, {base.data(), 0}, {y.data(), 0}};
    run_team(3, Threads::at_once, [&](Team& team) { quantized_linear({&output, 1}, {}, {x.data(), 0}, 1, team); });
    const auto rounded = in_eight_bits(x);
    for (int i = 0; i < n; ++i) {
        double magnitude = 1;
        for (int j = 0; j < k; ++j) {
            magnitude += std::abs(static_cast<double>(blocks.values[static_cast<size_t>(i * k + j)]) *
                                  rounded[static_cast<size_t>(j)]);
        }
        const double expected = static_cast<double>(base[static_cast<size_t>(i)]) + product(blocks.values, i, rounded);
        // Σ u·q is exact, its counterpart m·Σ q may be many times larger than their sum
        ASSERT_NEAR(y[static_cast<size_t>(i)], expected, 2e-5 * magnitude) << "row " << i;
    }
}

INSTANTIATE_TEST_SUITE_P(Types, RowTimes,
                         testing::Combine(small_blocks,
                                          testing::Values(std::pair{5, 64}, std::pair{70, 576}, std::pair{33, 1536})));
INSTANTIATE_TEST_SUITE_P(KQuants, RowTimes,
                         testing::Combine(large_blocks, testing::Values(std::pair{5, 256}, std::pair{70, 768})));

TEST(RowGate, EqualsPlainLoop) {
    if (!quantized_available()) {
        GTEST_SKIP() << "no VNNI here";
    }
    constexpr int n_ff = 90, k = 128;
    const Blocks gate(BlockType::q4_1, n_ff, k, 1);
    const Blocks up(BlockType::q8_0, n_ff, k, 2);
    const auto x = random_floats(k, 3, 0.2F);
    const auto norm = random_floats(k, 4, 0.3F);
    std::vector<float> y(n_ff);
    const QuantizedGate layer{{norm.data(), 1e-5F},
                              {BlockType::q4_1, gate.bytes.data(), n_ff, k},
                              {BlockType::q8_0, up.bytes.data(), n_ff, k}};
    run_team(2, Threads::at_once, [&](Team& team) { quantized_gate(layer, {x.data(), 0}, {y.data(), 0}, 1, team); });
    const auto exact = normalized(x.data(), k, norm, 1e-5);
    const auto rounded = in_eight_bits(std::vector<float>(exact.begin(), exact.end()));
    for (int i = 0; i < n_ff; ++i) {
        const double g = product(gate.values, i, rounded);
        const double expected = g / (1 + std::exp(-g)) * product(up.values, i, rounded);
        ASSERT_NEAR(y[static_cast<size_t>(i)], expected, 1e-3 * std::max(1.0, std::abs(expected))) << i;
    }
}

/// Rows with gaps between them, every row of each kind of tile.
TEST_P(RowTimes, SeveralRowsAreEachWhatItIsAlone) {
    if (!quantized_available()) {
        GTEST_SKIP() << "no VNNI here";
    }
    const auto [type, size] = GetParam();
    const auto n = static_cast<size_t>(size.first);
    const auto k = static_cast<size_t>(size.second);
    const Blocks blocks(type, size.first, size.second, 17);
    const QuantizedMatrix w{type, blocks.bytes.data(), size.first, size.second};
    const auto norm = random_floats(k, 18);
    for (const int m : {2, 3, 4, 5, 6, 7, 8, 13, 33}) {
        const auto rows = static_cast<size_t>(m);
        const size_t x_stride = k + 3;
        const size_t y_stride = n + 5;
        const auto x = random_floats(rows * x_stride, 19);
        const auto base = random_floats(rows * n, 20);
        std::vector<float> y(rows * y_stride), gated(rows * y_stride);
        const QuantizedOutput output{w, {base.data(), n}, {y.data(), y_stride}};
        const QuantizedGate gate{{norm.data(), 1e-5F}, w, w};
        run_team(3, Threads::at_once, [&](Team& team) {
            quantized_linear({&output, 1}, {norm.data(), 1e-5F}, {x.data(), x_stride}, m, team);
        });
        run_team(3, Threads::at_once, [&](Team& team) {
            quantized_gate(gate, {x.data(), x_stride}, {gated.data(), y_stride}, m, team);
        });
        for (size_t row = 0; row < rows; ++row) {
            std::vector<float> alone(n), gated_alone(n);
            const ConstRows own{x.data() + row * x_stride, 0};
            const QuantizedOutput single{w, {base.data() + row * n, 0}, {alone.data(), 0}};
            run_team(3, Threads::at_once, [&](Team& team) {
                quantized_linear({&single, 1}, {norm.data(), 1e-5F}, own, 1, team);
            });
            run_team(3, Threads::at_once, [&](Team& team) {
                quantized_gate(gate, own, {gated_alone.data(), 0}, 1, team);
            });
            for (size_t i = 0; i < n; ++i) {
                ASSERT_EQ(y[row * y_stride + i], alone[i]) << "row " << row << " of " << m << ", column " << i;
                ASSERT_EQ(gated[row * y_stride + i], gated_alone[i])
                    << "row " << row << " of " << m << ", column " << i;
            }
        }
    }
}

/// Heads stay with one thread: every column is handed over once, in whole heads, with all of its rows computed.
TEST(RowLinears, HandOverWholeHeads) {
    if (!quantized_available()) {
        GTEST_SKIP() << "no VNNI here";
    }
    constexpr int k = 256, head_dim = 20, m = 3;
    const Blocks q(BlockType::q8_0, 9 * head_dim, k, 1), kv(BlockType::q4_1, 3 * head_dim, k, 2);
    const auto x = random_floats(m * k, 3);
    std::vector<float> plain(m * 15 * head_dim), handed(plain.size(), -1), y(plain.size(), -2);
    const auto outputs_of = [&](float* to) {
        return std::vector<QuantizedOutput>{
            {{BlockType::q8_0, q.bytes.data(), 9 * head_dim, k}, {}, {to, 15 * head_dim}},
            {{BlockType::q4_1, kv.bytes.data(), 3 * head_dim, k}, {}, {to + 9 * head_dim, 15 * head_dim}},
            {{BlockType::q4_1, kv.bytes.data(), 3 * head_dim, k}, {}, {to + 12 * head_dim, 15 * head_dim}}};
    };
    run_team(3, Threads::at_once, [&](Team& team) {
        quantized_linear(outputs_of(plain.data()), {}, {x.data(), k}, m, team);
    });
    std::atomic<int> columns = 0;
    const auto outputs = outputs_of(y.data());
    run_team(3, Threads::at_once, [&](Team& team) {
        quantized_linear(outputs, {}, {x.data(), k}, m, team, head_dim, [&](size_t output, int first, int last) {
            EXPECT_EQ(first % head_dim, 0);
            EXPECT_EQ(last % head_dim, 0);
            columns += last - first;
            for (size_t row = 0; row < m; ++row) {
                const float* from = outputs[output].y.data + row * 15 * head_dim;
                std::copy(from + first, from + last, handed.data() + (from - y.data()) + first);
            }
        });
    });
    EXPECT_EQ(columns, 15 * head_dim);
    EXPECT_EQ(handed, plain);
}

TEST(Simd, NamesTheBestTargetThatWasCompiled) {
    EXPECT_EQ(simd_target(), hwy::TargetName(hwy::SupportedAndGeneratedTargets().front()));
    on_every_target([] { EXPECT_EQ(hwy::SupportedAndGeneratedTargets().size(), 1U); });
}

TEST(Gemm, SaysWhatItIs) {
    if (gemm_available(GemmType::f32)) {
        EXPECT_NE(gemm_description().find("oneDNN "), std::string::npos) << gemm_description();
    } else {
        EXPECT_EQ(gemm_description().find("oneDNN"), std::string::npos) << gemm_description();
        EXPECT_THROW(PackedWeights(GemmType::f32, 64, 64), Error);
        EXPECT_THROW(PackedKv(GemmType::f32, 64, 1, 64), Error);
    }
}

// ---- prefill attention ---------------------------------------------------------------------------------------

struct PrefillCase {
    int head_dim, n_head_kv, group, n_row, n_query, window, nth;
    Threads how;
    KvType kv_type;
    bool rows_outermost;
};

std::string name_of(KvType type) {
    switch (type) {
        case KvType::f32: return "f32";
        case KvType::f16: return "f16";
        case KvType::q8_0: return "q8_0";
        case KvType::q5_0: return "q5_0";
        case KvType::q4_0: break;
    }
    return "q4_0";
}

std::string describe(const PrefillCase& c) {
    return "d" + std::to_string(c.head_dim) + "_hk" + std::to_string(c.n_head_kv) + "_g" + std::to_string(c.group) +
           "_rows" + std::to_string(c.n_row) + "_q" + std::to_string(c.n_query) + "_w" + std::to_string(c.window) +
           "_nth" + std::to_string(c.nth) + "_" + name_of(c.kv_type) + (c.rows_outermost ? "_interleaved" : "");
}

/// `n` ascending rows among n_row, the last one always.
std::vector<int32_t> some_rows(int n, int n_row, unsigned seed) {
    std::vector<int32_t> rows(static_cast<size_t>(n_row));
    for (int i = 0; i < n_row; ++i) {
        rows[static_cast<size_t>(i)] = i;
    }
    std::mt19937 generator(seed);
    std::shuffle(rows.begin(), rows.end() - 1, generator);
    std::vector<int32_t> chosen(rows.end() - n, rows.end());
    std::sort(chosen.begin(), chosen.end());
    return chosen;
}

/// Original positions with gaps, as token selection leaves them.
std::vector<int32_t> gappy_positions(int n_row) {
    std::vector<int32_t> positions(static_cast<size_t>(n_row));
    int position = 0;
    for (int i = 0; i < n_row; ++i) {
        position += 1 + (i % 7 == 3 ? 4 : 0);
        positions[static_cast<size_t>(i)] = position;
    }
    return positions;
}

/// A copy of K or V whose heads have room for whole units, as the engine has them.
struct RowsWithRoom {
    AlignedBuffer memory;
    KvView view;

    explicit RowsWithRoom(const Kv& kv) {
        const size_t row_size = kv_row_size(kv.type, kv.dim);
        const size_t head_size = static_cast<size_t>(PackedKv::room_for(kv.n_row)) * row_size;
        memory.reserve(static_cast<size_t>(kv.n_head) * head_size);
        for (int head = 0; head < kv.n_head; ++head) {
            for (int row = 0; row < kv.n_row; ++row) {
                std::memcpy(
                    memory.data() + static_cast<size_t>(head) * head_size + static_cast<size_t>(row) * row_size,
                    &kv.bytes[static_cast<size_t>(head) * kv.head_stride + static_cast<size_t>(row) * kv.row_stride],
                    row_size);
            }
        }
        view = {memory.data(), kv.type, row_size, head_size};
    }
};

struct PrefillSetup {
    PrefillCase shape;
    Kv k;
    Kv v;
    std::vector<float> q;
    std::vector<float> out;
    std::vector<int32_t> key_row;
    std::vector<int32_t> key_position;
    PrefillQueries queries;

    explicit PrefillSetup(const PrefillCase& c, float score_scale = 1.0F)
        : shape(c),
          k(c.kv_type, c.n_head_kv, c.n_row, c.head_dim, 3, c.rows_outermost),
          v(c.kv_type, c.n_head_kv, c.n_row, c.head_dim, 4, c.rows_outermost),
          key_row(some_rows(c.n_query, c.n_row, 5)),
          key_position(gappy_positions(c.n_row)) {
        const size_t size = static_cast<size_t>(c.n_query) * static_cast<size_t>(c.n_head_kv * c.group * c.head_dim);
        q = random_floats(size, 6, score_scale);
        out.assign(size, std::numeric_limits<float>::quiet_NaN());
        queries = {q.data(),
                   out.data(),
                   key_row.data(),
                   key_position.data(),
                   c.n_query,
                   c.n_head_kv * c.group,
                   1.0F / std::sqrt(static_cast<float>(c.head_dim)),
                   c.window};
    }

    void run(GemmType type, int nth, Threads how) {
        PackedKv packed(type, shape.head_dim, shape.n_head_kv, shape.n_row + 100);
        packed.set_rows(k.view(), v.view(), shape.n_row, false);
        run_team(nth, how, [&](Team& team) { packed.pack(team); });
        run_team(nth, how, [&](Team& team) { prefill_attention(packed, queries, team); });
    }

    /// The same as run() with everything written over: what is packed over the rows, the outputs over the queries.
    /// Returns the bytes that the packed rows took beside them.
    size_t run_over(GemmType type, int nth, Threads how) {
        const RowsWithRoom own_k(k), own_v(v);
        PackedKv packed(type, shape.head_dim, shape.n_head_kv, shape.n_row);
        packed.set_rows(own_k.view, own_v.view, shape.n_row, true);
        run_team(nth, how, [&](Team& team) { packed.pack(team); });
        out = q;
        PrefillQueries over = queries;
        over.q = over.out = out.data();
        run_team(nth, how, [&](Team& team) { prefill_attention(packed, over, team); });
        return packed.bytes();
    }

    Attention expected(int query, int head) const {
        const int own = key_row[static_cast<size_t>(query)];
        const int own_position = key_position[static_cast<size_t>(own)];
        const size_t offset =
            (static_cast<size_t>(query) * static_cast<size_t>(queries.n_head) + static_cast<size_t>(head)) *
            static_cast<size_t>(shape.head_dim);
        return attend(
            q.data() + offset, k, v, head / shape.group, 0, own + 1, static_cast<double>(queries.scale), [&](int j) {
                return shape.window == 0 || own_position - key_position[static_cast<size_t>(j)] < shape.window;
            });
    }
};

class Prefill : public testing::TestWithParam<std::tuple<GemmType, PrefillCase>> {};

TEST_P(Prefill, EqualsPlainLoop) {
    const auto& [type, shape] = GetParam();
    if (!gemm_available(type)) {
        GTEST_SKIP() << "no products of this type here";
    }
    PrefillSetup setup(shape);
    setup.run(type, shape.nth, shape.how);
    const int n_head = setup.queries.n_head;
    for (const float value : setup.out) {
        ASSERT_TRUE(std::isfinite(value)) << "an output was not written";
    }
    // All rows of short prompts, a spread of about 20 of long ones, always with the first and the last.
    const int step = std::max(1, shape.n_query / 20);
    for (int query = shape.n_query - 1; query >= 0; query = query == 0 ? -1 : std::max(0, query - step)) {
        for (int head = query % 2; head < n_head; head += 2) {
            const Attention reference = setup.expected(query, head);
            const double allowed = tolerance(type, reference);
            for (int i = 0; i < shape.head_dim; ++i) {
                const size_t index =
                    (static_cast<size_t>(query) * static_cast<size_t>(n_head) + static_cast<size_t>(head)) *
                        static_cast<size_t>(shape.head_dim) +
                    static_cast<size_t>(i);
                ASSERT_NEAR(setup.out[index], reference.out[static_cast<size_t>(i)], allowed)
                    << "query " << query << " head " << head << " component " << i;
            }
        }
    }
    const std::vector<float> beside = setup.out;
    setup.run_over(type, shape.nth, shape.how);
    EXPECT_EQ(setup.out, beside) << "written over rows and queries";
}

constexpr Threads seq = Threads::one_by_one;
constexpr Threads par = Threads::at_once;
constexpr KvType f16 = KvType::f16;
constexpr KvType f32 = KvType::f32;
constexpr KvType q8_0 = KvType::q8_0;
constexpr KvType q5_0 = KvType::q5_0;
constexpr KvType q4_0 = KvType::q4_0;

INSTANTIATE_TEST_SUITE_P(Shapes, Prefill,
                         testing::Combine(testing::Values(GemmType::f32, GemmType::bf16),
                                          testing::Values(PrefillCase{8, 1, 1, 1, 1, 0, 1, seq, f32, false},
                                                          PrefillCase{64, 3, 3, 2, 2, 0, 2, seq, f16, true},
                                                          PrefillCase{20, 2, 3, 17, 17, 0, 3, par, f32, true},
                                                          PrefillCase{64, 3, 3, 300, 300, 0, 2, par, f16, true},
                                                          PrefillCase{64, 1, 3, 1500, 1500, 0, 2, par, f16, false},
                                                          PrefillCase{48, 2, 7, 200, 200, 0, 3, seq, f16, true},
                                                          PrefillCase{80, 2, 1, 600, 600, 0, 2, par, f32, false},
                                                          PrefillCase{128, 2, 4, 513, 513, 0, 2, par, f16, true},
                                                          PrefillCase{100, 1, 8, 130, 130, 0, 1, seq, f32, true},
                                                          PrefillCase{256, 1, 1, 70, 70, 0, 2, seq, f16, false},
                                                          PrefillCase{9, 1, 300, 5, 5, 0, 2, seq, f32, false},
                                                          PrefillCase{64, 2, 3, 300, 300, 0, 2, par, q8_0, true},
                                                          PrefillCase{96, 1, 2, 150, 150, 0, 3, seq, q8_0, false},
                                                          PrefillCase{64, 2, 3, 200, 200, 0, 2, par, q4_0, true},
                                                          PrefillCase{96, 1, 3, 150, 150, 0, 2, par, q5_0, true},
                                                          // token selection: queries are a sparse subset of the keys
                                                          PrefillCase{64, 3, 3, 1400, 280, 0, 2, par, f16, true},
                                                          PrefillCase{20, 1, 7, 777, 40, 0, 3, seq, f32, false},
                                                          PrefillCase{64, 2, 8, 1000, 1, 0, 3, par, f16, true},
                                                          PrefillCase{64, 3, 3, 64, 1, 0, 2, seq, f16, true},
                                                          // sliding windows, down to seeing oneself alone
                                                          PrefillCase{64, 3, 3, 900, 900, 100, 2, par, f16, true},
                                                          PrefillCase{64, 1, 1, 1300, 260, 700, 2, seq, f32, false},
                                                          PrefillCase{16, 1, 2, 400, 400, 1, 2, seq, f32, false})),
                         [](const auto& instance) {
                             return std::string(std::get<0>(instance.param) == GemmType::f32 ? "f32_" : "bf16_") +
                                    describe(std::get<1>(instance.param)) + "_" + std::to_string(instance.index);
                         });

TEST(PrefillAttention, PacksRowsInTheirPlaceWhereTheyAreAsLarge) {
    for (const auto& [type, kv_type] : {std::pair{GemmType::f32, f32}, std::pair{GemmType::bf16, f16}}) {
        if (!gemm_available(type)) continue;
        EXPECT_EQ(PrefillSetup({64, 3, 3, 300, 300, 0, 1, seq, kv_type, false}).run_over(type, 1, seq), 0U);
        const PrefillCase two_groups{128, 1, 1, 512, 1, 0, 1, seq, kv_type, false};  // of value columns
        EXPECT_EQ(PrefillSetup(two_groups).run_over(type, 1, seq), 512 * 128 * gemm_type_size(type));
    }
}

TEST(PrefillAttention, DoesNotDependOnTheNumberOfThreads) {
    for (const GemmType type : {GemmType::f32, GemmType::bf16}) {
        if (!gemm_available(type)) continue;
        PrefillSetup one({64, 3, 3, 700, 700, 0, 1, seq, f16, true});
        one.run(type, 1, Threads::one_by_one);
        PrefillSetup three({64, 3, 3, 700, 700, 0, 3, par, f16, true});
        three.run(type, 3, Threads::at_once);
        EXPECT_EQ(one.out, three.out);
    }
}

/// Factors that change from key to key, or from query to query, by powers of two.
TEST(PrefillAttention, SeesKeysAndQueriesOfAllSizes) {
    for (const GemmType type : {GemmType::f32, GemmType::bf16}) {
        if (!gemm_available(type)) continue;
        PrefillSetup setup({64, 1, 2, 640, 640, 0, 1, seq, f32, false});
        for (int row = 0; row < 640; ++row) {
            const double size = std::ldexp(1.0, row < 64 ? -40 : row < 128 ? 5 : row < 384 ? -3 * (row % 11) : 0);
            for (int i = 0; i < 64; ++i) {
                const size_t at = static_cast<size_t>(row * 64 + i);
                setup.k.values[at] *= size;
                const auto value = static_cast<float>(setup.k.values[at]);
                std::memcpy(&setup.k.bytes[at * sizeof(float)], &value, sizeof(float));
            }
            const float query_size = std::ldexp(1.0F, row % 5 == 0 ? -60 : -5 * (row % 3));
            for (int i = 0; i < 128; ++i) setup.q[static_cast<size_t>(row * 128 + i)] *= query_size;
        }
        std::fill(setup.q.begin() + 600 * 128, setup.q.begin() + 610 * 128, 0.0F);
        setup.run(type, 2, Threads::one_by_one);
        for (int query = 0; query < 640; query += 7) {
            const Attention reference = setup.expected(query, query % 2);
            for (int i = 0; i < 64; ++i) {
                ASSERT_NEAR(setup.out[static_cast<size_t>((query * 2 + query % 2) * 64 + i)],
                            reference.out[static_cast<size_t>(i)], tolerance(type, reference))
                    << "query " << query << " component " << i;
            }
        }
    }
}

TEST(PrefillAttention, SurvivesLargeScores) {
    for (const GemmType type : {GemmType::f32, GemmType::bf16}) {
        if (!gemm_available(type)) {
            continue;
        }
        PrefillSetup setup({64, 1, 3, 700, 700, 0, 1, seq, f16, true}, 1e4F);  // scores of about ±1e5
        setup.run(type, 2, Threads::one_by_one);
        for (const float value : setup.out) {
            ASSERT_TRUE(std::isfinite(value));
            ASSERT_LE(std::abs(value), 8.1F);  // the largest value there is
        }
    }
}

// Memory beyond the last row may hold anything, also what an earlier, longer layer left there.
TEST(PrefillAttention, IgnoresRowsOfAnEarlierLayer) {
    if (!gemm_available(GemmType::f32)) {
        GTEST_SKIP() << "no products here";
    }
    const PrefillCase shape{32, 1, 2, 70, 70, 0, 1, seq, f32, false};
    PrefillSetup fresh(shape);
    fresh.run(GemmType::f32, 1, seq);
    PrefillSetup again(shape);
    Kv poison(KvType::f32, 1, 300, 32, 9, false);
    std::fill(poison.bytes.begin(), poison.bytes.end(), std::byte{0xFF});  // NaN
    PackedKv packed(GemmType::f32, 32, 1, 300);
    packed.set_rows(poison.view(), poison.view(), 300, false);
    run_team(1, seq, [&](Team& team) { packed.pack(team); });
    packed.set_rows(again.k.view(), again.v.view(), shape.n_row, false);
    run_team(1, seq, [&](Team& team) { packed.pack(team); });
    run_team(1, seq, [&](Team& team) { prefill_attention(packed, again.queries, team); });
    EXPECT_EQ(fresh.out, again.out);
}

// ---- rotary position embedding -------------------------------------------------------------------------------

struct RopeCase {
    int n_rot, head_dim, n_head, n_row;
    bool halves, with_factors;
    int nth;
};

class RopeOf : public testing::TestWithParam<RopeCase> {};

TEST_P(RopeOf, TurnsPairsByTheirAngles) {
    const auto [n_rot, head_dim, n_head, n_row, halves, with_factors, nth] = GetParam();
    const std::vector<float> factors = random_floats(static_cast<size_t>(n_rot / 2), 3);
    std::vector<float> divide_by;
    for (const float factor : factors) divide_by.push_back(1.0F + std::abs(factor));
    const Rope rope{n_rot, 10000.0F, with_factors ? 0.25F : 1.0F, with_factors ? divide_by.data() : nullptr, halves};
    std::vector<int32_t> positions;  // near ones, and far beyond any context
    for (int row = 0; row < n_row; ++row) positions.push_back(row % 7 == 6 ? 1000000 + 31 * row : row * row);
    const auto x = random_floats(static_cast<size_t>(n_row * n_head * head_dim), 5);
    auto turned = x;
    run_team(nth, Threads::at_once, [&, rows = n_row, heads = n_head, dim = head_dim](Team& team) {
        rotate(rope, positions.data(), turned.data(), rows, heads, dim, team);
    });
    const float step = std::pow(10000.0F, -2.0F / static_cast<float>(n_rot));
    for (int row = 0; row < n_row; ++row) {
        auto power = static_cast<float>(positions[static_cast<size_t>(row)]);  // rounded as the angles of ggml are
        for (int pair = 0; pair < n_rot / 2; ++pair, power *= step) {
            const float scaled = with_factors ? power / divide_by[static_cast<size_t>(pair)] : power;
            const double angle = static_cast<double>(rope.freq_scale * scaled);
            for (int head = 0; head < n_head; ++head) {
                const auto first = static_cast<size_t>((row * n_head + head) * head_dim);
                const size_t i = first + static_cast<size_t>(halves ? pair : 2 * pair);
                const size_t j = first + static_cast<size_t>(halves ? pair + n_rot / 2 : 2 * pair + 1);
                const double a = static_cast<double>(x[i]), b = static_cast<double>(x[j]);
                ASSERT_NEAR(turned[i], a * std::cos(angle) - b * std::sin(angle), 1e-6) << row << " " << pair;
                ASSERT_NEAR(turned[j], a * std::sin(angle) + b * std::cos(angle), 1e-6) << row << " " << pair;
            }
        }
        for (int head = 0; head < n_head; ++head) {
            for (int i = n_rot; i < head_dim; ++i) {
                const auto at = static_cast<size_t>((row * n_head + head) * head_dim + i);
                ASSERT_EQ(turned[at], x[at]) << "beyond n_rot";
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Shapes, RopeOf,
                         testing::Values(RopeCase{64, 64, 9, 70, false, false, 2},
                                         RopeCase{64, 64, 3, 40, true, false, 3},
                                         RopeCase{32, 80, 2, 33, true, true, 1}, RopeCase{10, 16, 1, 5, false, true, 2},
                                         RopeCase{128, 128, 2, 9, true, false, 1}));

// ---- cache attention -----------------------------------------------------------------------------------------

struct CacheCase {
    int head_dim, group;
    std::vector<int> n_entry;  // of each cached head
    int window, nth;
    Threads how;
    KvType k_type, v_type;
};

/// A cache whose heads have lengths and places of their own, in an order unlike that of their rows, and a query to it.
struct CacheSetup {
    const CacheCase& shape;
    Kv k;
    Kv v;
    std::vector<float> q;
    std::vector<std::vector<int32_t>> positions;
    std::vector<CacheHead> heads;
    CacheQuery query;

    explicit CacheSetup(const CacheCase& c)
        : shape(c), k(c.k_type, 1, n_row(c), c.head_dim, 3, true), v(c.v_type, 1, n_row(c), c.head_dim, 4, true) {
        const int n_head_kv = static_cast<int>(c.n_entry.size());
        const int longest = *std::max_element(c.n_entry.begin(), c.n_entry.end());
        q = random_floats(static_cast<size_t>(n_head_kv * c.group * c.head_dim), 5);
        int64_t row = n_row(c);
        for (int h = 0; h < n_head_kv; ++h) {
            const int n = c.n_entry[static_cast<size_t>(h)];
            row -= n + gap;  // the last head first
            positions.push_back(shuffled_positions(n, 3 * longest, static_cast<unsigned>(h)));
            heads.push_back({row, n, positions.back().data()});
        }
        query = {.q = q.data(),
                 .k = {k.bytes.data(), c.k_type, k.row_stride},
                 .v = {v.bytes.data(), c.v_type, v.row_stride},
                 .heads = heads.data(),
                 .query_position = 3 * longest,
                 .n_head = n_head_kv * c.group,
                 .n_head_kv = n_head_kv,
                 .head_dim = c.head_dim,
                 .scale = 1.0F / std::sqrt(static_cast<float>(c.head_dim)),
                 .sliding_window = c.window};
    }

    bool sees(int head_kv, int j) const {
        return shape.window == 0 ||
               query.query_position - positions[static_cast<size_t>(head_kv)][static_cast<size_t>(j)] < shape.window;
    }

    /// Of a query head, in double precision.
    Attention expected(int head) const {
        const int head_kv = head / shape.group;
        const CacheHead& cached = heads[static_cast<size_t>(head_kv)];
        return attend(q.data() + head * shape.head_dim, k, v, 0, static_cast<int>(cached.first_row), cached.n_entry,
                      static_cast<double>(query.scale), [&](int j) { return sees(head_kv, j); });
    }

  private:
    static constexpr int gap = 3;  // rows behind each head that belong to nobody

    static int n_row(const CacheCase& c) {
        int rows = 0;
        for (const int n : c.n_entry) {
            rows += n + gap;
        }
        return rows;
    }

    /// Positions up to `last`, that of the query itself, in no order.
    static std::vector<int32_t> shuffled_positions(int n, int last, unsigned seed) {
        std::vector<int32_t> positions(static_cast<size_t>(n));
        for (int j = 0; j < n; ++j) {
            positions[static_cast<size_t>(j)] = last - 3 * j - (j > 0 ? (j + static_cast<int>(seed)) % 3 : 0);
        }
        std::shuffle(positions.begin(), positions.end(), std::mt19937(seed));
        return positions;
    }
};

class Cache : public testing::TestWithParam<CacheCase> {};

TEST_P(Cache, EqualsPlainLoop) {
    const CacheCase& c = GetParam();
    const CacheSetup setup(c);
    const int n_head = setup.query.n_head;
    std::vector<Attention> expected;
    for (int head = 0; head < n_head; ++head) {
        expected.push_back(setup.expected(head));
    }
    on_every_target([&] {
        CacheAttention attention(1, setup.query.n_head_kv, c.group, c.head_dim, c.nth);
        std::vector<float> partial(attention.partial_size(), std::numeric_limits<float>::quiet_NaN());
        std::vector<float> out(setup.q.size(), std::numeric_limits<float>::quiet_NaN());
        run_team(c.nth, c.how, [&](Team& team) {
            attention.attend({&setup.query, 1}, out.data(), partial.data(), team);
        });
        for (int head = 0; head < n_head; ++head) {
            const Attention& reference = expected[static_cast<size_t>(head)];
            for (int i = 0; i < c.head_dim; ++i) {
                ASSERT_NEAR(out[static_cast<size_t>(head * c.head_dim + i)], reference.out[static_cast<size_t>(i)],
                            tolerance(GemmType::f32, reference))
                    << "head " << head << " component " << i;
            }
        }
    });
}

TEST_P(Cache, GivesTheWeights) {
    const CacheCase& c = GetParam();
    const CacheSetup setup(c);
    const int n_head = setup.query.n_head;
    const auto stride = static_cast<size_t>(*std::max_element(c.n_entry.begin(), c.n_entry.end())) + 5;
    std::vector<Attention> expected;
    for (int head = 0; head < n_head; ++head) {
        expected.push_back(setup.expected(head));
    }
    on_every_target([&] {
        constexpr float untouched = -12345.0F;
        std::vector<float> weights(static_cast<size_t>(n_head) * stride, untouched);
        run_threads(c.nth, c.how,
                    [&](int ith) { cache_attention_weights(setup.query, weights.data(), stride, ith, c.nth); });
        for (size_t head = 0; head < expected.size(); ++head) {
            const Attention& reference = expected[head];
            // Of a probability's relative error see tolerance().
            const double error = std::expm1(2e-6 * reference.max_score_sum) + 2e-6;
            for (size_t j = 0; j < stride; ++j) {
                const float weight = weights[head * stride + j];
                if (j >= reference.weights.size()) {
                    ASSERT_EQ(weight, untouched) << "head " << head << ": wrote beyond the entries, at " << j;
                } else {
                    const double value = reference.weights[j];
                    ASSERT_NEAR(weight, value, error * value + (value > 0 ? 1e-30 : 0))
                        << "head " << head << " entry " << j;
                }
            }
        }
    });
}

using Lengths = std::vector<int>;

/// Keys that are the stored ones times a scale: as if queries had been multiplied by that of their head.
TEST(CacheScale, IsThatOfTheStoredKeys) {
    const CacheSetup plain(CacheCase{64, 3, Lengths{70, 9}, 0, 1, seq, f16, f16});
    const std::vector<float> scale = random_floats(2 * 64, 5, 2);
    CacheQuery scaled = plain.query, multiplied = plain.query;
    std::vector<float> q = plain.q;
    for (size_t i = 0; i < q.size(); ++i) q[i] *= scale[i / 64 / 3 * 64 + i % 64];
    scaled.k_scale = scale.data();
    multiplied.q = q.data();
    std::vector<float> a(6 * 70), b(6 * 70);
    cache_attention_weights(scaled, a.data(), 70, 0, 1);
    cache_attention_weights(multiplied, b.data(), 70, 0, 1);
    for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-4 * b[i] + 1e-12) << i;
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, Cache,
    testing::Values(
        CacheCase{64, 3, Lengths{1, 1, 1}, 0, 1, seq, f16, f16},
        CacheCase{64, 3, Lengths{1, 1, 1}, 0, 8, par, f16, f16},
        CacheCase{64, 3, Lengths{5, 5, 5}, 0, 8, par, f16, f16},
        CacheCase{64, 3, Lengths{1000, 1000, 1000}, 0, 2, par, f16, f16},
        CacheCase{128, 4, Lengths(8, 333), 0, 3, par, f16, f16},
        // so long that all quarters of a range are read by turns
        CacheCase{64, 3, Lengths{2501, 1100}, 0, 1, seq, f16, f16},
        CacheCase{64, 3, Lengths{6003, 6003}, 0, 2, par, f16, f16},
        CacheCase{20, 3, Lengths{2403}, 0, 1, seq, f16, f16}, CacheCase{96, 5, Lengths{2201}, 0, 1, seq, q8_0, q4_0},
        CacheCase{64, 3, Lengths{2500}, 700, 1, seq, f16, f16}, CacheCase{128, 7, Lengths{65, 65}, 0, 1, seq, f32, f32},
        CacheCase{20, 3, Lengths{129, 129}, 0, 2, seq, f16, f16}, CacheCase{8, 1, Lengths{64}, 0, 2, seq, f16, f16},
        CacheCase{80, 8, Lengths{200}, 0, 3, par, f16, f16}, CacheCase{100, 6, Lengths{200}, 0, 2, seq, f16, f16},
        CacheCase{256, 2, Lengths{100}, 0, 2, seq, f16, f16}, CacheCase{64, 12, Lengths{300}, 0, 2, par, f16, f16},
        CacheCase{64, 3, Lengths{700, 700, 700}, 500, 3, par, f16, f16},
        CacheCase{20, 1, Lengths{400, 400}, 1, 2, seq, f32, f32},
        // heads of different length, cached for each query head or for groups
        CacheCase{64, 1, Lengths{1, 700, 64, 3, 65}, 0, 3, par, f16, f16},
        CacheCase{64, 3, Lengths{500, 1, 20}, 0, 2, par, f16, f16},
        CacheCase{9, 5, Lengths{63, 2, 130}, 0, 2, seq, f32, f32},
        CacheCase{128, 4, Lengths{1, 600}, 300, 3, seq, f16, f16},
        CacheCase{20, 2, Lengths{70, 9}, 40, 3, seq, f32, f16},
        // blocks, also for one of the two only
        CacheCase{64, 3, Lengths{200, 31, 77}, 0, 2, par, q8_0, q8_0},
        CacheCase{96, 5, Lengths{131, 131}, 50, 3, seq, q8_0, q8_0},
        CacheCase{32, 8, Lengths{77}, 0, 1, seq, q8_0, f16}, CacheCase{64, 1, Lengths{90, 5}, 0, 2, seq, f16, q8_0},
        CacheCase{64, 7, Lengths{200, 31}, 0, 2, par, q5_0, q4_0}, CacheCase{96, 4, Lengths{70}, 0, 1, seq, q8_0, q5_0},
        CacheCase{64, 7, Lengths{200, 31}, 0, 2, par, q4_0, q4_0},
        CacheCase{96, 5, Lengths{131, 131}, 50, 3, seq, q4_0, q8_0},
        CacheCase{128, 4, Lengths{77}, 0, 1, seq, q8_0, q4_0}));

TEST(CacheAttention, SurvivesLargeScores) {
    const CacheCase shape{64, 1, {300}, 0, 2, seq, f16, f16};
    CacheSetup setup(shape);
    for (float& value : setup.q) {
        value *= 1e5F;
    }
    CacheAttention attention(1, 1, 1, 64, 2);
    std::vector<float> partial(attention.partial_size(), std::numeric_limits<float>::quiet_NaN());
    std::vector<float> out(64);
    run_team(2, seq, [&](Team& team) { attention.attend({&setup.query, 1}, out.data(), partial.data(), team); });
    for (const float value : out) {
        EXPECT_TRUE(std::isfinite(value));
        EXPECT_LE(std::abs(value), 8.1F);
    }
}

/// Several queries of one call, whose caches are of different shapes, again and again: the same numbers whoever takes
/// which piece, and those that each query has alone.
TEST(CacheAttention, IsTheSameHoweverThreadsShareIt) {
    const std::vector<CacheCase> shapes = {{64, 3, Lengths{3000, 3000, 3000}, 0, 3, par, f16, f16},
                                           {64, 1, Lengths{1, 700, 64, 3, 65, 2000, 9, 8, 7}, 0, 3, par, f16, f16},
                                           {64, 3, Lengths{5, 1300, 20}, 500, 3, par, q8_0, f16}};
    std::vector<std::unique_ptr<CacheSetup>> setups;
    std::vector<CacheQuery> queries;
    std::vector<float> expected;  // [queries][n_head][head_dim]
    for (const CacheCase& shape : shapes) {
        queries.push_back(setups.emplace_back(std::make_unique<CacheSetup>(shape))->query);
        for (int head = 0; head < 9; ++head) {
            for (const double value : setups.back()->expected(head).out) expected.push_back(static_cast<float>(value));
        }
    }
    CacheAttention attention(3, 3 + 9 + 3, 3, 64, 3);
    std::vector<float> partial(attention.partial_size(), std::numeric_limits<float>::quiet_NaN());
    std::vector<float> first;
    for (int i = 0; i < 20; ++i) {
        std::vector<float> out(expected.size(), std::numeric_limits<float>::quiet_NaN());
        run_team(3, i == 0 ? seq : par,
                 [&](Team& team) { attention.attend(queries, out.data(), partial.data(), team); });
        if (i == 0) first = out;
        ASSERT_EQ(out, first) << "call " << i;
    }
    for (size_t i = 0; i < first.size(); ++i) ASSERT_NEAR(first[i], expected[i], 1e-3) << i;
    std::vector<float> alone(first.size() / 3);
    run_team(3, par, [&](Team& team) { attention.attend({&queries[1], 1}, alone.data(), partial.data(), team); });
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), first.begin() + std::ptrdiff_t(alone.size())));
}

// ---- key scores ----------------------------------------------------------------------------------------------

/// Whom the rows see and how they count.
struct Scoring {
    bool softmax = true;
    int first_masked_row = 0;
    float last_weight = 1;
};

constexpr Scoring causal{};
constexpr Scoring raw{.softmax = false};

struct ScoreCase {
    int head_dim, n_head_kv, group, n_row, n_query, n_col, nth;
    Threads how;
    KvType kv_type;
    Scoring scoring;
};

/// A layer's keys and the queries of its last rows.
struct ScoreSetup {
    const ScoreCase& shape;
    Kv k;
    std::vector<float> q;
    ScoreQueries queries;

    explicit ScoreSetup(const ScoreCase& c, bool rows_outermost = true)
        : shape(c), k(c.kv_type, c.n_head_kv, c.n_row, c.head_dim, 3, rows_outermost) {
        const int n_head = c.n_head_kv * c.group;
        q = random_floats(static_cast<size_t>(c.n_query * n_head * c.head_dim), 5, 0.5F);
        queries = {.q = q.data(),
                   .k = k.view(),
                   .n_rows = c.n_row,
                   .n_query = c.n_query,
                   .n_col = c.n_col,
                   .n_head = n_head,
                   .n_head_kv = c.n_head_kv,
                   .head_dim = c.head_dim,
                   .scale = 1.0F / std::sqrt(static_cast<float>(c.head_dim)),
                   .softmax = c.scoring.softmax,
                   .first_masked_row = c.scoring.first_masked_row,
                   .last_weight = c.scoring.last_weight};
    }

    /// What a query gives to every row, in double precision, and how far float32 may be off.
    struct Row {
        std::vector<double> value;
        std::vector<double> error;
    };
    Row expected(int query, int head) const {
        const int own = shape.n_row - shape.n_query + query;
        const bool sees_all = !queries.softmax || own < queries.first_masked_row;
        const int n_visible = sees_all ? shape.n_row : own + 1;
        const auto n_row = static_cast<size_t>(shape.n_row);
        Row row{std::vector<double>(n_row, 0.0), std::vector<double>(n_row, 0.0)};
        std::vector<double> scores;
        double largest_score_sum = 0;
        for (int j = 0; j < n_visible; ++j) {
            double dot = 0;
            double magnitude = 0;
            for (int i = 0; i < shape.head_dim; ++i) {
                const auto component = static_cast<size_t>((query * queries.n_head + head) * shape.head_dim + i);
                const double term = static_cast<double>(q[component]) * k.at(head / shape.group, j, i);
                dot += term;
                magnitude += std::abs(term);
            }
            if (queries.softmax) {
                scores.push_back(dot * static_cast<double>(queries.scale));
                largest_score_sum = std::max(largest_score_sum, magnitude * static_cast<double>(queries.scale));
            } else {
                row.value[static_cast<size_t>(j)] = dot;
                row.error[static_cast<size_t>(j)] = 1e-6 * magnitude;
            }
        }
        if (queries.softmax) {
            const double max = *std::max_element(scores.begin(), scores.end());
            double total = 0;
            for (const double score : scores) {
                total += std::exp(score - max);
            }
            for (size_t j = 0; j < scores.size(); ++j) {  // relative: how scores in float32 err, see tolerance()
                row.value[j] = std::exp(scores[j] - max) / total;
                row.error[j] = (std::expm1(2e-6 * largest_score_sum) + 2e-6) * row.value[j] + 1e-30;
            }
        }
        return row;
    }
};

std::vector<float> sums_of(const ScoreQueries& queries, int nth, Threads how) {
    std::vector<float> sums(static_cast<size_t>(queries.n_head) * static_cast<size_t>(queries.n_col),
                            std::numeric_limits<float>::quiet_NaN());
    run_threads(nth, how, [&](int ith) { key_scores(queries, sums.data(), ith, nth); });
    return sums;
}

std::vector<float> means_of(const ScoreQueries& queries, int nth, Threads how) {
    std::vector<float> means(static_cast<size_t>(queries.n_query) * static_cast<size_t>(queries.n_rows),
                             std::numeric_limits<float>::quiet_NaN());
    run_threads(nth, how, [&](int ith) { mean_attention(queries, means.data(), ith, nth); });
    return means;
}

class KeyScores : public testing::TestWithParam<ScoreCase> {};

TEST_P(KeyScores, EqualsPlainLoop) {
    const ScoreCase& c = GetParam();
    const ScoreSetup setup(c);
    const auto n_col = static_cast<size_t>(c.n_col);
    std::vector<double> expected(static_cast<size_t>(setup.queries.n_head) * n_col, 0.0);
    std::vector<double> error(expected.size(), 0.0);
    for (int head = 0; head < setup.queries.n_head; ++head) {
        for (int i = 0; i < c.n_query; ++i) {
            const double weight =
                c.n_query == 1 ? 1.0 : 1.0 + (static_cast<double>(c.scoring.last_weight) - 1.0) * i / (c.n_query - 1);
            const ScoreSetup::Row row = setup.expected(i, head);
            for (size_t j = 0; j < n_col; ++j) {
                const size_t index = static_cast<size_t>(head) * n_col + j;
                expected[index] += weight * row.value[j];
                // A sum of n float32 numbers is off by n·2^-24 of their magnitude.
                error[index] += weight * (row.error[j] + 6e-8 * (c.n_query + 4) * std::abs(row.value[j]));
            }
        }
    }
    on_every_target([&] {
        const std::vector<float> sums = sums_of(setup.queries, c.nth, c.how);
        for (size_t index = 0; index < sums.size(); ++index) {
            ASSERT_NEAR(sums[index], expected[index], error[index])
                << "head " << index / n_col << " key " << index % n_col;
        }
    });
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, KeyScores,
    testing::Values(
        // the window of FastKV and SnapKV: columns before it
        ScoreCase{64, 3, 3, 1500, 8, 1492, 2, par, f16, causal}, ScoreCase{64, 3, 3, 9, 8, 1, 3, seq, f16, causal},
        ScoreCase{128, 2, 4, 500, 32, 468, 2, par, f16, causal}, ScoreCase{20, 2, 7, 200, 1, 199, 3, seq, f32, causal},
        ScoreCase{8, 1, 1, 2, 1, 1, 2, par, f32, causal}, ScoreCase{100, 1, 8, 129, 7, 122, 5, par, f16, causal},
        ScoreCase{256, 1, 1, 64, 3, 61, 1, seq, f32, causal}, ScoreCase{64, 2, 3, 300, 8, 292, 2, seq, q8_0, causal},
        // all columns, few columns
        ScoreCase{9, 1, 5, 77, 5, 77, 2, seq, f32, causal}, ScoreCase{64, 1, 2, 400, 30, 3, 1, seq, f16, causal},
        // all rows: several tiles, one key, masked in the last rows only (H2O) or from the middle of a tile on
        ScoreCase{1, 1, 1, 1, 1, 1, 1, seq, f32, causal}, ScoreCase{64, 3, 3, 200, 200, 192, 3, par, f16, causal},
        ScoreCase{20, 2, 2, 131, 131, 131, 2, par, f32, causal},
        ScoreCase{64, 3, 3, 200, 200, 192, 2, par, f16, {.first_masked_row = 192}},
        ScoreCase{96, 1, 1, 150, 150, 142, 1, seq, q8_0, {.first_masked_row = 142}},
        ScoreCase{16, 1, 2, 170, 100, 170, 2, seq, f32, {.first_masked_row = 111}},
        ScoreCase{16, 2, 70, 20, 3, 20, 3, seq, f32, causal},  // more heads in a group than rows in a tile
        // later queries weigh more (PyramidInfer)
        ScoreCase{64, 3, 3, 250, 51, 199, 2, par, f16, {.last_weight = 1.2F}},
        ScoreCase{20, 1, 3, 100, 2, 98, 1, seq, f32, {.last_weight = 1.2F}},
        ScoreCase{20, 1, 3, 100, 1, 99, 2, seq, f32, {.last_weight = 1.2F}},
        // raw (GemFilter)
        ScoreCase{64, 3, 3, 500, 1, 500, 3, par, f16, raw}, ScoreCase{20, 2, 1, 65, 9, 40, 1, seq, f32, raw},
        ScoreCase{32, 1, 4, 130, 130, 100, 2, seq, q8_0, {.softmax = false, .last_weight = 2.0F}}));

class MeanAttention : public testing::TestWithParam<ScoreCase> {};

TEST_P(MeanAttention, EqualsPlainLoop) {
    const ScoreCase& c = GetParam();
    const ScoreSetup setup(c, false);
    const int n_head = setup.queries.n_head;
    const auto n_row = static_cast<size_t>(c.n_row);
    std::vector<double> expected(static_cast<size_t>(c.n_query) * n_row, 0.0);
    std::vector<double> error(expected.size(), 0.0);
    for (int i = 0; i < c.n_query; ++i) {
        for (int head = 0; head < n_head; ++head) {
            const ScoreSetup::Row row = setup.expected(i, head);
            for (size_t j = 0; j < n_row; ++j) {
                expected[static_cast<size_t>(i) * n_row + j] += row.value[j] / n_head;
                error[static_cast<size_t>(i) * n_row + j] += (row.error[j] + 1e-6 * row.value[j]) / n_head;
            }
        }
    }
    on_every_target([&] {
        const std::vector<float> means = means_of(setup.queries, c.nth, c.how);
        for (size_t index = 0; index < means.size(); ++index) {  // exactly 0 for hidden keys
            ASSERT_NEAR(means[index], expected[index], error[index])
                << "query " << index / n_row << " key " << index % n_row;
        }
    });
}

INSTANTIATE_TEST_SUITE_P(Shapes, MeanAttention,
                         testing::Values(ScoreCase{64, 3, 3, 300, 61, 300, 2, par, f16, causal},
                                         ScoreCase{20, 2, 7, 130, 1, 130, 3, seq, f32, causal},
                                         ScoreCase{128, 1, 4, 150, 150, 150, 3, par, f16, causal},
                                         ScoreCase{9, 3, 1, 65, 64, 65, 1, seq, f32, causal},
                                         ScoreCase{8, 1, 1, 1, 1, 1, 2, seq, f32, causal},
                                         ScoreCase{64, 2, 2, 90, 20, 90, 2, seq, q8_0, causal},
                                         ScoreCase{64, 2, 2, 90, 20, 90, 2, seq, q4_0, causal},
                                         ScoreCase{64, 2, 2, 90, 20, 90, 2, seq, q5_0, causal}));

/// The layer that the project's reference text gives test vectors for: 12 rows, 4 query heads, 2 key/value heads.
struct PublishedLayer {
    static constexpr int n_head = 4;
    static constexpr int n_head_kv = 2;
    static constexpr int dim = 4;
    static constexpr int n_row = 12;
    std::vector<float> q;  // [n_row][n_head][dim]
    std::vector<float> k;  // [n_head_kv][n_row][dim]

    PublishedLayer() {
        for (int i = 0; i < n_row; ++i) {
            for (int h = 0; h < n_head; ++h) {
                for (int e = 0; e < dim; ++e) {
                    q.push_back(static_cast<float>(2 * std::sin(0.9 * h + 0.37 * i + 1.3 * e + 0.2)));
                }
            }
        }
        for (int g = 0; g < n_head_kv; ++g) {
            for (int j = 0; j < n_row; ++j) {
                for (int e = 0; e < dim; ++e) {
                    k.push_back(static_cast<float>(2 * std::cos(1.1 * g + 0.53 * j * (1 + 0.1 * e) - 0.4 * e)));
                }
            }
        }
    }

    std::vector<float> sums(int n_query, int n_col, Scoring scoring) const {
        const ScoreQueries queries{.q = q.data() + (n_row - n_query) * n_head * dim,
                                   .k = {k.data(), KvType::f32, dim * sizeof(float), n_row * dim * sizeof(float)},
                                   .n_rows = n_row,
                                   .n_query = n_query,
                                   .n_col = n_col,
                                   .n_head = n_head,
                                   .n_head_kv = n_head_kv,
                                   .head_dim = dim,
                                   .scale = 0.5F,
                                   .softmax = scoring.softmax,
                                   .first_masked_row = scoring.first_masked_row,
                                   .last_weight = scoring.last_weight};
        return sums_of(queries, 2, Threads::one_by_one);
    }
};

void expect_row(const std::vector<float>& sums, size_t row, const std::vector<double>& expected) {
    for (size_t j = 0; j < expected.size(); ++j) {
        EXPECT_NEAR(sums[row * expected.size() + j], expected[j], 1e-6 * std::max(1.0, std::abs(expected[j])))
            << "row " << row << " column " << j;
    }
}

TEST(PublishedScores, OfTheWindow) {
    const std::vector<float> sums = PublishedLayer().sums(2, 10, causal);
    expect_row(sums, 0,
               {0.016862, 0.066056, 0.206276, 0.358548, 0.347332,  //
                0.241060, 0.162895, 0.132651, 0.135043, 0.147776});
    expect_row(sums, 2,
               {0.422144, 0.194855, 0.066154, 0.024685, 0.014699,  //
                0.016489, 0.032283, 0.085937, 0.221199, 0.393649});
}

TEST(PublishedScores, OfH2O) {
    const PublishedLayer layer;
    expect_row(layer.sums(12, 10, {.first_masked_row = 10}), 0,
               {1.825939, 0.697856, 0.502459, 0.676176, 0.933911, 1.357721, 1.782343, 1.568227, 0.962203, 0.602079});
    expect_row(layer.sums(12, 10, causal), 0,
               {4.089718, 0.935424, 0.517375, 0.749054, 1.152291, 1.661257, 1.432208, 0.731487, 0.338293, 0.207394});
}

TEST(PublishedScores, OfGemFilter) {
    const std::vector<float> sums = PublishedLayer().sums(1, 12, raw);
    std::vector<float> pooled(12, 0.0F);
    for (int j = 0; j < 12; ++j) {
        for (int neighbour = std::max(0, j - 2); neighbour <= std::min(11, j + 2); ++neighbour) {
            for (int head = 0; head < 4; ++head) {
                pooled[static_cast<size_t>(j)] += sums[static_cast<size_t>(head * 12 + neighbour)] / 5;
            }
        }
    }
    expect_row(pooled, 0,
               {0.273066, 0.240798, -0.185729, -0.860214, -1.784702, -2.311298,  //
                -1.812506, -0.065096, 2.512759, 4.919950, 5.250633, 4.784109});
}

TEST(PublishedScores, OfPyramidInfer) {
    const std::vector<float> sums = PublishedLayer().sums(3, 9, {.last_weight = 1.2F});
    std::vector<float> mean(9, 0.0F);
    for (size_t index = 0; index < sums.size(); ++index) {
        mean[index % 9] += sums[index] / (4 * 3);  // of the heads and the rows
    }
    expect_row(mean, 0, {0.110197, 0.085684, 0.100396, 0.106546, 0.083413, 0.062467, 0.055456, 0.064912, 0.099054});
}

TEST(KeyScores, SurvivesLargeScores) {
    const ScoreCase shape{64, 1, 1, 200, 150, 200, 1, seq, f16, causal};
    ScoreSetup setup(shape);
    for (float& value : setup.q) {
        value *= 2e5F;
    }
    double total = 0;
    for (const float value : sums_of(setup.queries, 1, seq)) {
        ASSERT_TRUE(std::isfinite(value));
        total += static_cast<double>(value);
    }
    EXPECT_NEAR(total, 150, 1e-3);
    for (const float value : means_of(setup.queries, 1, seq)) {
        ASSERT_TRUE(value >= 0 && value <= 1.000001F);
    }
}

}  // namespace
}  // namespace fastkv::kernels
