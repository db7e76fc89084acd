// The products of bf16 that do without AMX and without a library, each against a plain loop in double precision.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/half_product.h"
#include "kernels/panels.h"
#include "kernels/simd.h"
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

/// A way to multiply, and how far it may be off, with random numbers and at worst: as a share of Σ|a·b|.
struct Way {
    std::string name;
    bool (*available)();
    void (*ready_rows)(int m, int k, uint16_t* rows, size_t stride, Magnitude, float* scales);
    void (*multiply)(const ProductShape&, const ReadyRows&, const void*, float*, const FetchAhead&);
    double rounding, worst_rounding;
};

void as_they_are(int, int, uint16_t*, size_t, Magnitude, float*) {}

const Way by_vectors{"Vectors", vectors::available, as_they_are, vectors::multiply, 2e-6, 2e-5};
const Way by_halves{"Halves", half::available, half::ready_rows, half::multiply, half::rounding, half::worst_rounding};

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
        constexpr float before = 3.0F, untouched = -12345.0F;
        shape_.accumulate = accumulate;
        std::vector<float> c(size_t(shape_.m) * shape_.c_stride, untouched);
        for (int row = 0; row < shape_.m; ++row) {
            for (int col = 0; accumulate && col < shape_.n; ++col)
                c[size_t(row) * shape_.c_stride + size_t(col)] = before;
        }
        multiply(way, shape_, c);
        for (int row = 0; row < shape_.m; ++row) {
            for (int col = 0; col < int(shape_.c_stride); ++col) {
                const float found = c[size_t(row) * shape_.c_stride + size_t(col)];
                if (col >= shape_.n) {
                    ASSERT_EQ(found, untouched) << "wrote between rows";
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

    /// [m][n]
    std::vector<float> product(const Way& way) const {
        ProductShape shape = shape_;
        shape.c_stride = size_t(shape_.n);
        std::vector<float> c(size_t(shape.m) * shape.c_stride);
        multiply(way, shape, c);
        return c;
    }

  private:
    void multiply(const Way& way, const ProductShape& shape, std::vector<float>& c) const {
        std::vector<uint16_t> rows = a_;
        std::vector<float> scales(size_t(shape.m));
        way.ready_rows(shape.m, shape.k, rows.data(), shape.a_stride, magnitude_, scales.data());
        way.multiply(shape, {rows.data(), scales.data()}, packed().data(), c.data(), {});
    }

    std::vector<uint32_t> packed() const {
        std::vector<uint32_t> words(b_.size() / 2);
        panels::pack_operand(shape_.n, shape_.k, order_, b_.data(),
                             size_t(order_ == OperandOrder::transposed ? shape_.k : shape_.n), words.data());
        return words;
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
                ASSERT_EQ(std::isfinite(c[size_t(row * 64 + col)]), row != 3) << "row " << row << " column " << col;
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

INSTANTIATE_TEST_SUITE_P(Ways, Product, testing::Values(by_vectors, by_halves),
                         [](const auto& way) { return way.param.name; });

}  // namespace
}  // namespace fastkv::kernels
