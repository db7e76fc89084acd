// The products of bf16 that do without AMX and without a library, each against a plain loop in double precision.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/half_product.h"
#include "kernels/half_softmax.h"
#include "kernels/panels.h"
#include "kernels/simd.h"
#include "kernels/vector_ops.h"
#include "kernels/vector_product.h"

namespace fastkv::kernels {
namespace {

uint16_t bf16_bits(float value) {
    uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof(bits));
    return static_cast<uint16_t>(bits >> 16);  // cut off, so that the bits are those of a number
}

float bf16_value(uint16_t bits) {
    const uint32_t word = static_cast<uint32_t>(bits) << 16;
    float value = 0;
    std::memcpy(&value, &word, sizeof(value));
    return value;
}

/// What makes operands ready, for products that ask for it (product.h).
struct Preparation {
    void (*ready_rows)(int m, int k, uint16_t* rows, size_t stride, Magnitude, float* scales) = nullptr;
    int (*column_scales)(int n, int k) = nullptr;
    void (*ready_columns)(int n, int k, uint16_t* packed, float* scales) = nullptr;
};

/// A way to multiply, and how far it may be off, with random numbers and at worst: as a share of Σ|a·b|.
struct Way {
    std::string name;
    bool (*available)();
    Preparation prepare;
    void (*multiply)(const ProductShape&, const ReadyRows&, const PackedColumns&, float*, const FetchAhead&);
    double rounding, worst_rounding;
};

const Way by_vectors{"Vectors", vectors::available, {}, vectors::multiply, 2e-6, 2e-5};
const Way by_halves{"Halves",       half::available, {half::ready_rows, half::column_scales, half::ready_columns},
                    half::multiply, half::rounding,  half::worst_rounding};

/// A [m][k] times B [k][n], C [m][n] with gaps between the rows.
class Operands {
  public:
    Operands(int m, int n, int k, OperandOrder order, unsigned seed)
        : shape_{GemmType::bf16, m, n, k, false, size_t(k) + 32, size_t(n) + 16}, order_(order) {
        std::mt19937 generator(seed);
        std::normal_distribution<float> normal;
        a_.resize(size_t(m) * shape_.a_stride);
        b_.resize(size_t(n) * size_t(k));
        for (uint16_t& value : a_) value = bf16_bits(normal(generator));
        for (uint16_t& value : b_) value = bf16_bits(normal(generator));
    }

    uint16_t& a(int row, int i) { return a_[size_t(row) * shape_.a_stride + size_t(i)]; }
    uint16_t& b(int col, int i) {
        return order_ == OperandOrder::transposed ? b_[size_t(col) * size_t(shape_.k) + size_t(i)]
                                                  : b_[size_t(i) * size_t(shape_.n) + size_t(col)];
    }

    /// Probabilities in place of A's values: 2^-x, as a softmax leaves them.
    void make_probabilities() {
        for (uint16_t& value : a_) value = bf16_bits(std::exp2(-8 * std::abs(bf16_value(value))));
        magnitude_ = Magnitude::up_to_one;
    }

    /// Multiplies, over C of all `before` if that is added to, and compares.
    void check(const Way& way, bool accumulate) { check(way, accumulate, way.rounding); }

    void check(const Way& way, bool accumulate, double rounding) {
        shape_.accumulate = accumulate;
        const std::vector<float> c = product(way);
        for (int row = 0; row < shape_.m; ++row) {
            for (int col = 0; col < int(shape_.c_stride); ++col) {
                const float found = c[size_t(row) * shape_.c_stride + size_t(col)];
                if (col >= shape_.n) {
                    ASSERT_EQ(found, before) << "wrote between rows";
                    continue;
                }
                double sum = accumulate ? before : 0, magnitude = std::abs(sum) * 1e-4;
                for (int i = 0; i < shape_.k; ++i) {
                    const double term = double(bf16_value(a(row, i))) * double(bf16_value(b(col, i)));
                    sum += term;
                    magnitude += std::abs(term);
                }
                ASSERT_NEAR(found, sum, rounding * magnitude) << "row " << row << " column " << col;
            }
        }
    }

    /// [m][c_stride], over `before`
    std::vector<float> product(const Way& way) const {
        std::vector<float> c(size_t(shape_.m) * shape_.c_stride, before);
        std::vector<uint16_t> rows = a_, columns = packed();
        std::vector<float> row_scales(size_t(shape_.m)), column_scales;
        const Preparation& prepare = way.prepare;
        if (prepare.ready_rows) {
            prepare.ready_rows(shape_.m, shape_.k, rows.data(), shape_.a_stride, magnitude_, row_scales.data());
        }
        if (prepare.ready_columns) {
            column_scales.resize(size_t(prepare.column_scales(shape_.n, shape_.k)));
            prepare.ready_columns(shape_.n, shape_.k, columns.data(), column_scales.data());
        }
        way.multiply(shape_, {rows.data(), row_scales.data()}, {columns.data(), column_scales.data()}, c.data(), {});
        return c;
    }

    /// Those that float16 holds, multiplied by their scales: [m][n].
    std::vector<float> scores() const {
        ProductShape shape = shape_;
        shape.c_stride = size_t(shape.n);
        std::vector<uint16_t> rows = a_, columns = packed(), halves(size_t(shape.m) * shape.c_stride);
        std::vector<float> row_scales(size_t(shape.m)), panel_scales(size_t(shape.n / 64)), values(halves.size());
        half::ready_rows(shape.m, shape.k, rows.data(), shape.a_stride, magnitude_, row_scales.data());
        half::ready_columns(shape.n, shape.k, columns.data(), panel_scales.data());
        half::multiply_scores(shape, {rows.data(), row_scales.data()}, {columns.data(), panel_scales.data()},
                              halves.data());
        convert_kv_row(halves.data(), KvType::f16, int(halves.size()), GemmType::f32, values.data(),
                       int(values.size()));
        for (size_t i = 0; i < values.size(); ++i) {
            values[i] *= row_scales[i / shape.c_stride] * panel_scales[i % shape.c_stride / 64];
        }
        return values;
    }

  private:
    static constexpr float before = 3.0F;

    std::vector<uint16_t> packed() const {
        std::vector<uint16_t> values(b_.size());
        panels::pack_operand(shape_.n, shape_.k, order_, b_.data(),
                             size_t(order_ == OperandOrder::transposed ? shape_.k : shape_.n), values.data());
        return values;
    }

    ProductShape shape_;
    OperandOrder order_;
    Magnitude magnitude_ = Magnitude::any;
    std::vector<uint16_t> a_, b_;
};

class Product : public testing::TestWithParam<Way> {
  protected:
    void SetUp() override {
        if (!GetParam().available()) GTEST_SKIP() << "this processor does not multiply so (" << simd_target() << ")";
    }
};

TEST_P(Product, EqualsAPlainLoop) {
    const int sizes[][3] = {{16, 64, 32},  {16, 128, 64}, {48, 64, 96},   {32, 192, 128},
                            {16, 64, 256}, {64, 64, 288}, {16, 128, 1056}};
    for (const auto& [m, n, k] : sizes) {
        for (const OperandOrder order : {OperandOrder::transposed, OperandOrder::straight}) {
            for (const bool accumulate : {false, true}) {
                SCOPED_TRACE(testing::Message() << m << " x " << n << " x " << k << (accumulate ? ", added" : ""));
                Operands(m, n, k, order, unsigned(m + n + k)).check(GetParam(), accumulate);
            }
        }
    }
}

TEST_P(Product, KeepsSmallValuesBesideLargeOnes) {
    Operands operands(16, 64, 192, OperandOrder::transposed, 1);
    for (int row = 0; row < 16; ++row) {  // as a model's largest activations, and rows of all sizes
        const float scale = std::ldexp(1.0F, 8 * (row - 8));
        for (int i = 0; i < 192; ++i) operands.a(row, i) = bf16_bits(scale * bf16_value(operands.a(row, i)));
        operands.a(row, 17) = bf16_bits(1000 * scale);
    }
    for (int col = 0; col < 64; ++col) operands.b(col, 17) = 0;  // what the largest value adds cannot hide the others
    operands.check(GetParam(), false);
}

TEST_P(Product, OfProbabilities) {
    Operands operands(32, 64, 256, OperandOrder::straight, 1);
    operands.make_probabilities();
    operands.check(GetParam(), true);
}

TEST_P(Product, DoesNotOverflow) {
    Operands operands(16, 64, 192, OperandOrder::transposed, 1);
    for (int row = 0; row < 16; ++row) {
        for (int i = 0; i < 192; ++i) operands.a(row, i) = bf16_bits(std::ldexp(1.99F, 40));
    }
    for (int col = 0; col < 64; ++col) {
        for (int i = 0; i < 192; ++i) operands.b(col, i) = bf16_bits(std::ldexp(1.99F, 20));
    }
    operands.check(GetParam(), false, GetParam().worst_rounding);
}

TEST_P(Product, ShowsWhatIsNotFinite) {
    for (const float value : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
        Operands operands(16, 64, 64, OperandOrder::transposed, 1);
        operands.a(3, 5) = bf16_bits(value);
        const std::vector<float> c = operands.product(GetParam());
        for (int row = 0; row < 16; ++row) {
            for (int col = 0; col < 64; ++col) {
                ASSERT_EQ(std::isfinite(c[size_t(row * (64 + 16) + col)]), row != 3)
                    << "row " << row << " column " << col;
            }
        }
    }
}

TEST_P(Product, OfZerosIsZero) {
    Operands operands(16, 64, 64, OperandOrder::straight, 1);
    for (int row = 0; row < 16; row += 2) {
        for (int i = 0; i < 64; ++i) operands.a(row, i) = 0;
    }
    operands.check(GetParam(), false);
    operands.check(GetParam(), true);
}

TEST(HalfScores, AreTheProductsDividedByTheirScales) {
    if (!half::available()) GTEST_SKIP() << "no AVX512-FP16 here (" << simd_target() << ")";
    for (const auto& [m, n, k] : {std::array{4, 64, 32}, std::array{20, 128, 64}, std::array{48, 256, 192}}) {
        ASSERT_TRUE(half::has_scores(k));
        Operands operands(m, n, k, OperandOrder::transposed, unsigned(m + n + k));
        for (int i = 0; i < k; ++i) operands.b(n - 1, i) = bf16_bits(1000 * bf16_value(operands.b(n - 1, i)));
        const std::vector<float> found = operands.scores();
        for (int row = 0; row < m; ++row) {
            for (int col = 0; col < n; ++col) {
                double sum = 0, magnitude = 0;
                for (int i = 0; i < k; ++i) {
                    const double term = double(bf16_value(operands.a(row, i))) * double(bf16_value(operands.b(col, i)));
                    sum += term;
                    magnitude += std::abs(term);
                }
                ASSERT_NEAR(found[size_t(row * n + col)], sum, half::rounding * magnitude) << row << " " << col;
            }
        }
    }
    EXPECT_FALSE(half::has_scores(256)) << "more than a panel";
}

/// The softmax of rows of scores that come in steps.
class HalfSoftmax : public testing::Test {
  protected:
    static constexpr int rows = 20;

    void SetUp() override {
        if (!half::available()) GTEST_SKIP() << "no AVX512-FP16 here (" << simd_target() << ")";
    }

    /// `cols` more scores of every row, [rows][cols], which float16 has, divided by powers of two.
    void step(const std::vector<float>& scores, int cols) {
        std::vector<float> row_scales, panel_scales, divided;
        for (int row = 0; row < rows; ++row) row_scales.push_back(std::ldexp(1.0F, row % 4 - 2));
        for (int panel = 0; panel < cols / 64; ++panel) panel_scales.push_back(std::ldexp(1.0F, 3 - 2 * panel));
        for (size_t i = 0; i < scores.size(); ++i) {
            const size_t row = i / size_t(cols), panel = i % size_t(cols) / 64;
            divided.push_back(scores[i] / row_scales[row] / panel_scales[panel]);
        }
        std::vector<uint16_t> halves(scores.size());
        store_kv_row(divided.data(), int(divided.size()), KvType::f16, halves.data());
        half::softmax_step(halves.data(), rows, cols, {row_scales.data(), panel_scales.data()},
                           {max_.data(), sum_.data(), decay_.data()});
        std::vector<float> found(scores.size());
        convert_kv_row(halves.data(), KvType::f16, int(found.size()), GemmType::f32, found.data(), int(found.size()));
        for (size_t row = 0; row < rows; ++row) {
            const auto offset = std::ptrdiff_t(row) * cols;
            for (double& weight : weights_[row]) weight *= double(decay_[row]);
            weights_[row].insert(weights_[row].end(), found.begin() + offset, found.begin() + offset + cols);
            scores_[row].insert(scores_[row].end(), scores.begin() + offset, scores.begin() + offset + cols);
        }
    }

    /// Weights of all steps against those in double precision.
    void check() const {
        for (size_t row = 0; row < rows; ++row) {
            const double largest = *std::max_element(scores_[row].begin(), scores_[row].end());
            double sum = 0;
            for (const double score : scores_[row]) sum += std::exp2(score - largest);
            for (size_t i = 0; i < scores_[row].size(); ++i) {
                const double expected = std::exp2(scores_[row][i] - largest) / sum;
                ASSERT_NEAR(weights_[row][i] / double(sum_[row]), expected, 0.004 * expected + 0x1p-26)
                    << "row " << row << " score " << scores_[row][i] << ", the largest " << largest;
            }
        }
    }

    std::vector<float> max_ = std::vector<float>(rows, -std::numeric_limits<float>::infinity());
    std::vector<float> sum_ = std::vector<float>(rows), decay_ = std::vector<float>(rows);
    std::vector<double> weights_[rows], scores_[rows];
};

constexpr float hidden = -std::numeric_limits<float>::infinity();

/// [rows][cols] from -size to size, a ninth of them hidden.
std::vector<float> some_scores(int rows, int cols, float size, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<float> scores;
    for (int i = 0; i < rows * cols; ++i) {
        const float score = (float(random() % 1025U) / 512 - 1) * size;
        scores.push_back(random() % 9U == 0 ? hidden : score);
    }
    return scores;
}

TEST_F(HalfSoftmax, OfSmallScores) {
    for (const unsigned seed : {1U, 2U, 3U, 4U}) step(some_scores(rows, 64 << seed % 4, 0.25F, seed), 64 << seed % 4);
    check();
}

TEST_F(HalfSoftmax, OfLargerOnesInEveryStep) {
    for (const unsigned seed : {1U, 2U, 3U, 4U}) step(some_scores(rows, 128, float(8 << seed), seed), 128);
    check();
}

TEST_F(HalfSoftmax, OfSmallerOnesInEveryStep) {
    for (const unsigned seed : {1U, 2U, 3U, 4U}) step(some_scores(rows, 128, float(64 >> seed), seed), 128);
    check();
}

TEST_F(HalfSoftmax, OfRowsThatSeeNothingAtFirst) {
    std::vector<float> first = some_scores(rows, 64, 4.0F, 1);
    for (int i = 0; i < rows * 64; ++i) {
        if (i / 64 % 3 != 0) first[size_t(i)] = hidden;
    }
    step(first, 64);
    for (size_t row = 1; row < rows; row += 3) {
        EXPECT_EQ(max_[row], hidden);
        EXPECT_EQ(sum_[row], 0);
    }
    step(some_scores(rows, 128, 4.0F, 2), 128);
    check();
}

INSTANTIATE_TEST_SUITE_P(Ways, Product, testing::Values(by_vectors, by_halves),
                         [](const auto& way) { return way.param.name; });

}  // namespace
}  // namespace fastkv::kernels
