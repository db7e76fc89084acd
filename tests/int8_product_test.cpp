// Products of 8-bit integers, by whatever of it this processor has, against plain loops.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "kernels/int8_narrow.h"
#include "kernels/int8_product.h"
#include "kernels/simd.h"

namespace fastkv::kernels::int8 {
namespace {

void multiply_best(const ProductShape& shape, const Scales& scales, const int8_t* a, const int8_t* b, float* c) {
    FetchAhead nothing;
    int8::multiply(shape, scales, a, b, c, nothing);
}

/// A way to do it.
struct Way {
    std::string name;
    bool (*available)();
    void (*quantize_row)(float* x, int n, int group, int8_t* target, float* scales);
    void (*pack_operand)(int n, int k, const int8_t* source, size_t row_stride, int8_t* packed);
    void (*multiply)(const ProductShape&, const Scales&, const int8_t* a, const int8_t* b, float* c);
};

const Way best{"Best", available, quantize_row, pack_operand, multiply_best};
const Way of_256_bits{"Narrow", narrow::available, narrow::quantize_row, narrow::pack_operand, narrow::multiply};

class EightBits : public testing::TestWithParam<Way> {
  protected:
    void SetUp() override {
        if (!GetParam().available()) GTEST_SKIP() << "this processor does not multiply so (" << simd_target() << ")";
    }
};

/// The Hadamard matrix of 64 values, divided by 8, times x.
std::vector<double> rotated(const float* x) {
    std::vector<double> y(rotated_values);
    for (size_t i = 0; i < y.size(); ++i) {
        for (size_t j = 0; j < y.size(); ++j) y[i] += (__builtin_parityll(i & j) ? -1 : 1) * double(x[j]) / 8;
    }
    return y;
}

TEST_P(EightBits, RowsAreRotatedAndRoundedByGroups) {
    constexpr int n = 448, group = 192;  // the last group is shorter
    std::mt19937 generator(1);
    std::normal_distribution<float> normal;
    std::vector<float> x(n);
    for (float& value : x) value = normal(generator);
    x[70] = 90;  // what a scale of its own, without a rotation, would keep all others coarse for
    const std::vector<float> before = x;
    std::vector<int8_t> found(n);
    std::vector<float> scales(3, -1);
    GetParam().quantize_row(x.data(), n, group, found.data(), scales.data());
    for (int begin = 0; begin < n; begin += group) {
        const float scale = scales[size_t(begin / group)];
        int largest = 0;
        for (int i = begin; i < std::min(n, begin + group); i += rotated_values) {
            const std::vector<double> expected = rotated(before.data() + i);
            for (int j = 0; j < rotated_values; ++j) {
                const int value = found[size_t(i + j)];
                ASSERT_NEAR(value * double(scale), expected[size_t(j)], 0.501 * scale) << "value " << i + j;
                largest = std::max(largest, std::abs(value));
            }
        }
        EXPECT_EQ(largest, 127) << "from " << begin;
    }
}

TEST_P(EightBits, ARowOfZerosStaysZero) {
    std::vector<float> x(64);
    std::vector<int8_t> found(64, 1);
    float scale = -1;
    GetParam().quantize_row(x.data(), 64, 64, found.data(), &scale);
    EXPECT_EQ(scale, 0);
    EXPECT_EQ(found, std::vector<int8_t>(64));
}

TEST_P(EightBits, ProductEqualsAPlainLoop) {
    const int sizes[][3] = {{16, 64, 64}, {48, 128, 128}, {32, 192, 576}, {80, 64, 1024}};
    for (const auto& [m, n, k] : sizes) {
        for (const bool accumulate : {false, true}) {
            SCOPED_TRACE(testing::Message() << m << " x " << n << " x " << k << (accumulate ? ", added" : ""));
            std::mt19937 generator(unsigned(m + n + k));
            std::uniform_int_distribution<int> byte(-127, 127);
            std::uniform_real_distribution<float> scale(0.01F, 1.0F);
            const ProductShape shape{GemmType::int8, m, n, k, accumulate, size_t(k) + 64, size_t(n) + 16};
            std::vector<int8_t> a(size_t(m) * shape.a_stride), b(size_t(n) * size_t(k)), packed(b.size());
            std::vector<float> a_scales(size_t(m) * 2), b_scales(size_t(n), 0);
            for (int8_t& value : a) value = int8_t(byte(generator));
            for (int8_t& value : b) value = int8_t(byte(generator));
            std::fill(a.begin(), a.begin() + k, int8_t(127));  // the largest sums that there are
            std::fill(b.begin(), b.begin() + k, int8_t(127));
            for (float& value : a_scales) value = scale(generator);
            for (float& value : b_scales) value = scale(generator);
            std::vector<float> c(size_t(m) * shape.c_stride, 3.0F);
            GetParam().pack_operand(n, k, b.data(), size_t(k), packed.data());
            GetParam().multiply(shape, {a_scales.data(), 2, b_scales.data()}, a.data(), packed.data(), c.data());
            for (int row = 0; row < m; ++row) {
                for (int col = 0; col < int(shape.c_stride); ++col) {
                    const float found = c[size_t(row) * shape.c_stride + size_t(col)];
                    if (col >= n) {
                        ASSERT_EQ(found, 3.0F) << "wrote between rows";
                        continue;
                    }
                    int sum = 0;
                    for (int i = 0; i < k; ++i)
                        sum += a[size_t(row) * shape.a_stride + size_t(i)] * b[size_t(col * k + i)];
                    const double product = double(a_scales[size_t(row) * 2]) * double(b_scales[size_t(col)]) * sum;
                    ASSERT_NEAR(found, product + (accumulate ? 3 : 0), 1e-6 * std::abs(product) + 1e-6)
                        << "row " << row << " column " << col;
                }
            }
        }
    }
}

TEST(EightBitsNarrow, IsTheSameBitForBit) {
    if (!available() || !narrow::available()) GTEST_SKIP() << "there is one way at most";
    std::mt19937 generator(2);
    std::normal_distribution<float> normal;
    std::vector<float> x(256);
    for (float& value : x) value = normal(generator);
    std::vector<float> copy = x;
    std::vector<int8_t> one(256), other(256);
    std::vector<float> scales(2), other_scales(2);
    quantize_row(x.data(), 256, 128, one.data(), scales.data());
    narrow::quantize_row(copy.data(), 256, 128, other.data(), other_scales.data());
    EXPECT_EQ(one, other);
    EXPECT_EQ(scales, other_scales);
}

INSTANTIATE_TEST_SUITE_P(Ways, EightBits, testing::Values(best, of_256_bits),
                         [](const auto& way) { return way.param.name; });

}  // namespace
}  // namespace fastkv::kernels::int8
