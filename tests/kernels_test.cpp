// Every CPU kernel against a plain loop in double precision, over shapes that hit each edge: ragged sizes, groups of
// any number of heads, strides, sparse rows, windows, more threads than work, threads one by one and at once.
#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "fastkv/error.h"
#include "kernels/cache_attention.h"
#include "kernels/gemm.h"
#include "kernels/prefill_attention.h"
#include "kernels/simd.h"
#include "kernels/vector_ops.h"
#include "kernels/window_scores.h"

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
            std::mt19937 generator(seed);
            for (size_t i = 0; i < n; i += 32, target += 34) {  // a scale between 2^-6 and 2^-5, then 32 bytes
                const auto d = static_cast<uint16_t>(9U << 10 | (generator() & 0x3FFU));
                std::memcpy(target, &d, sizeof(d));
                for (size_t j = 0; j < 32; ++j) {
                    const auto q = static_cast<int8_t>(static_cast<int>(generator() & 0xFFU) - 128);
                    std::memcpy(target + 2 + j, &q, sizeof(q));
                    value[i + j] = half_value(d) * q;
                }
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
}

TEST(KvRow, ConvertsFromEveryType) {
    for (const KvType type : {KvType::f32, KvType::f16, KvType::q8_0}) {
        for (const int dim : {32, 96, 20}) {
            if (type == KvType::q8_0 && dim % 32 != 0) {
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
            packed.pack_slab(slab, w.data() + static_cast<size_t>(slab) * PackedWeights::slab_rows *
                                                  static_cast<size_t>(packed.k()));
        }
    });
    run_threads(nth, how, [&, rows = m, threads = nth](int ith) {
        linear(packed, x.data(), x_stride, y.data(), y_stride, rows, ith, threads);
    });

    // Products of two bf16 numbers are exact in float32, so in either type only the sum of float32 numbers rounds:
    // relative to Σ|x·w| by a small multiple of 2^-24.
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
            ASSERT_NEAR(y[static_cast<size_t>(i) * y_stride + static_cast<size_t>(j)], sum, 2e-6 * magnitude + 1e-12)
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
    const float one = 1.0F;
    packed.pack_slab(0, &one);
    std::vector<float> y(inputs.size());
    linear(packed, inputs.data(), 1, y.data(), 1, static_cast<int>(inputs.size()), 0, 1);
    EXPECT_EQ(y, expected);
    // Whole vectors take another path than single values.
    std::vector<float> identity(64 * 64, 0.0F);
    for (size_t i = 0; i < 64; ++i) {
        identity[i * 64 + i] = 1.0F;
    }
    PackedWeights square(GemmType::bf16, 64, 64);
    square.pack_slab(0, identity.data());
    std::vector<float> x(64);
    std::vector<float> out(64);
    for (size_t i = 0; i < 64; ++i) {
        x[i] = inputs[i % 4];
    }
    linear(square, x.data(), 64, out.data(), 64, 1, 0, 1);
    for (size_t i = 0; i < 64; ++i) {
        EXPECT_EQ(out[i], expected[i % 4]) << i;
    }
}

TEST(Gemm, SaysWhatItIs) {
    if (gemm_available(GemmType::f32)) {
        EXPECT_EQ(gemm_description().rfind("oneDNN ", 0), 0U) << gemm_description();
    } else {
        EXPECT_EQ(gemm_description(), "none");
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
        case KvType::q8_0: break;
    }
    return "q8_0";
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
        run_threads(nth, how, [&](int ith) { packed.pack(k.view(), v.view(), shape.n_row, ith, nth); });
        run_threads(nth, how, [&](int ith) { prefill_attention(packed, queries, ith, nth); });
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
}

constexpr Threads seq = Threads::one_by_one;
constexpr Threads par = Threads::at_once;
constexpr KvType f16 = KvType::f16;
constexpr KvType f32 = KvType::f32;
constexpr KvType q8_0 = KvType::q8_0;

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

TEST(PrefillAttention, DoesNotDependOnTheNumberOfThreads) {
    if (!gemm_available(GemmType::f32)) {
        GTEST_SKIP() << "no products here";
    }
    PrefillSetup one({64, 3, 3, 700, 700, 0, 1, seq, f16, true});
    one.run(GemmType::f32, 1, Threads::one_by_one);
    PrefillSetup three({64, 3, 3, 700, 700, 0, 3, par, f16, true});
    three.run(GemmType::f32, 3, Threads::at_once);
    EXPECT_EQ(one.out, three.out);
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
    packed.pack(poison.view(), poison.view(), 300, 0, 1);
    packed.pack(again.k.view(), again.v.view(), shape.n_row, 0, 1);
    prefill_attention(packed, again.queries, 0, 1);
    EXPECT_EQ(fresh.out, again.out);
}

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
        std::vector<float> partial(cache_attention_partial_size(n_head, c.head_dim, c.nth),
                                   std::numeric_limits<float>::quiet_NaN());
        std::vector<float> out(setup.q.size(), std::numeric_limits<float>::quiet_NaN());
        run_threads(c.nth, c.how, [&](int ith) { cache_attention_partial(setup.query, partial.data(), ith, c.nth); });
        run_threads(c.nth, c.how, [&](int ith) {
            cache_attention_merge(partial.data(), n_head, c.head_dim, c.nth, out.data(), ith, c.nth);
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

INSTANTIATE_TEST_SUITE_P(Shapes, Cache,
                         testing::Values(CacheCase{64, 3, Lengths{1, 1, 1}, 0, 1, seq, f16, f16},
                                         CacheCase{64, 3, Lengths{1, 1, 1}, 0, 8, par, f16, f16},
                                         CacheCase{64, 3, Lengths{5, 5, 5}, 0, 8, par, f16, f16},
                                         CacheCase{64, 3, Lengths{1000, 1000, 1000}, 0, 2, par, f16, f16},
                                         CacheCase{128, 4, Lengths(8, 333), 0, 3, par, f16, f16},
                                         CacheCase{128, 7, Lengths{65, 65}, 0, 1, seq, f32, f32},
                                         CacheCase{20, 3, Lengths{129, 129}, 0, 2, seq, f16, f16},
                                         CacheCase{8, 1, Lengths{64}, 0, 2, seq, f16, f16},
                                         CacheCase{80, 8, Lengths{200}, 0, 3, par, f16, f16},
                                         CacheCase{100, 6, Lengths{200}, 0, 2, seq, f16, f16},
                                         CacheCase{256, 2, Lengths{100}, 0, 2, seq, f16, f16},
                                         CacheCase{64, 12, Lengths{300}, 0, 2, par, f16, f16},
                                         CacheCase{64, 3, Lengths{700, 700, 700}, 500, 3, par, f16, f16},
                                         CacheCase{20, 1, Lengths{400, 400}, 1, 2, seq, f32, f32},
                                         // heads of different length, cached for each query head or for groups
                                         CacheCase{64, 1, Lengths{1, 700, 64, 3, 65}, 0, 3, par, f16, f16},
                                         CacheCase{64, 3, Lengths{500, 1, 20}, 0, 2, par, f16, f16},
                                         CacheCase{9, 5, Lengths{63, 2, 130}, 0, 2, seq, f32, f32},
                                         CacheCase{128, 4, Lengths{1, 600}, 300, 3, seq, f16, f16},
                                         CacheCase{20, 2, Lengths{70, 9}, 40, 3, seq, f32, f16},
                                         // q8_0, also for one of the two only
                                         CacheCase{64, 3, Lengths{200, 31, 77}, 0, 2, par, q8_0, q8_0},
                                         CacheCase{96, 5, Lengths{131, 131}, 50, 3, seq, q8_0, q8_0},
                                         CacheCase{32, 8, Lengths{77}, 0, 1, seq, q8_0, f16},
                                         CacheCase{64, 1, Lengths{90, 5}, 0, 2, seq, f16, q8_0}));

TEST(CacheAttention, SurvivesLargeScores) {
    const CacheCase shape{64, 1, {300}, 0, 2, seq, f16, f16};
    CacheSetup setup(shape);
    for (float& value : setup.q) {
        value *= 1e5F;
    }
    std::vector<float> partial(cache_attention_partial_size(1, 64, 2));
    std::vector<float> out(64);
    cache_attention_partial(setup.query, partial.data(), 0, 2);
    cache_attention_partial(setup.query, partial.data(), 1, 2);
    cache_attention_merge(partial.data(), 1, 64, 2, out.data(), 0, 1);
    for (const float value : out) {
        EXPECT_TRUE(std::isfinite(value));
        EXPECT_LE(std::abs(value), 8.1F);
    }
}

// ---- window scores -------------------------------------------------------------------------------------------

struct WindowCase {
    int head_dim, n_head_kv, group, n_row, window, nth;
    Threads how;
    KvType kv_type;
    bool rows_outermost;
};

class Window : public testing::TestWithParam<WindowCase> {};

std::vector<float> sums_of(const WindowQueries& queries, int nth, Threads how) {
    const int n_sum = queries.n_rows - queries.window;
    std::vector<float> sums(static_cast<size_t>(queries.n_head) * static_cast<size_t>(n_sum),
                            std::numeric_limits<float>::quiet_NaN());
    run_threads(nth, how, [&](int ith) { window_scores(queries, sums.data(), ith, nth); });
    return sums;
}

TEST_P(Window, EqualsPlainLoop) {
    const WindowCase& c = GetParam();
    const int n_head = c.n_head_kv * c.group;
    const Kv k(c.kv_type, c.n_head_kv, c.n_row, c.head_dim, 3, c.rows_outermost);
    const std::vector<float> q = random_floats(static_cast<size_t>(c.window * n_head * c.head_dim), 5, 0.5F);
    const float scale = 1.0F / std::sqrt(static_cast<float>(c.head_dim));
    const WindowQueries queries{q.data(), k.view(), c.n_row, c.window, n_head, c.n_head_kv, c.head_dim, scale};
    const std::vector<float> sums = sums_of(queries, c.nth, c.how);
    const int n_sum = c.n_row - c.window;
    for (int head = 0; head < n_head; ++head) {
        std::vector<double> expected(static_cast<size_t>(n_sum), 0.0);
        double largest_score_sum = 0;
        for (int i = 0; i < c.window; ++i) {
            std::vector<double> scores(static_cast<size_t>(n_sum + i + 1));
            for (size_t j = 0; j < scores.size(); ++j) {
                double magnitude = 0;
                for (int l = 0; l < c.head_dim; ++l) {
                    const double term =
                        static_cast<double>(q[static_cast<size_t>((i * n_head + head) * c.head_dim + l)]) *
                        k.at(head / c.group, static_cast<int>(j), l) * static_cast<double>(scale);
                    scores[j] += term;
                    magnitude += std::abs(term);
                }
                largest_score_sum = std::max(largest_score_sum, magnitude);
            }
            const double max = *std::max_element(scores.begin(), scores.end());
            double total = 0;
            for (double& score : scores) {
                score = std::exp(score - max);
                total += score;
            }
            for (size_t j = 0; j < expected.size(); ++j) {
                expected[j] += scores[j] / total;
            }
        }
        for (int j = 0; j < n_sum; ++j) {  // relative: how scores in float32 err, see tolerance()
            const double value = expected[static_cast<size_t>(j)];
            ASSERT_NEAR(sums[static_cast<size_t>(head) * static_cast<size_t>(n_sum) + static_cast<size_t>(j)], value,
                        (2e-6 * largest_score_sum + 2e-6) * value + 1e-30)
                << "head " << head << " key " << j;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, Window,
    testing::Values(WindowCase{64, 3, 3, 1500, 8, 2, par, f16, true}, WindowCase{64, 3, 3, 9, 8, 3, seq, f16, false},
                    WindowCase{128, 2, 4, 500, 32, 2, par, f16, true}, WindowCase{20, 2, 7, 200, 1, 3, seq, f32, false},
                    WindowCase{8, 1, 1, 2, 1, 2, par, f32, false}, WindowCase{100, 1, 8, 129, 7, 5, par, f16, false},
                    WindowCase{256, 1, 1, 64, 3, 1, seq, f32, true}, WindowCase{64, 2, 3, 300, 8, 2, seq, q8_0, true}));

// The vector that the project's reference text gives for window sums before pooling.
TEST(WindowScores, GivesThePublishedVector) {
    constexpr int n_head = 4;
    constexpr int n_head_kv = 2;
    constexpr int dim = 4;
    constexpr int n_row = 12;
    constexpr int window = 2;
    std::vector<float> q(window * n_head * dim);
    std::vector<float> k(n_head_kv * n_row * dim);
    for (int i = 0; i < window; ++i) {
        for (int h = 0; h < n_head; ++h) {
            for (int e = 0; e < dim; ++e) {
                const double angle = 0.9 * h + 0.37 * (n_row - window + i) + 1.3 * e + 0.2;
                q[static_cast<size_t>((i * n_head + h) * dim + e)] = static_cast<float>(2 * std::sin(angle));
            }
        }
    }
    for (int g = 0; g < n_head_kv; ++g) {
        for (int j = 0; j < n_row; ++j) {
            for (int e = 0; e < dim; ++e) {
                const double angle = 1.1 * g + 0.53 * j * (1 + 0.1 * e) - 0.4 * e;
                k[static_cast<size_t>((g * n_row + j) * dim + e)] = static_cast<float>(2 * std::cos(angle));
            }
        }
    }
    const KvView view{k.data(), KvType::f32, dim * sizeof(float), n_row * dim * sizeof(float)};
    const std::vector<float> sums =
        sums_of({q.data(), view, n_row, window, n_head, n_head_kv, dim, 0.5F}, 2, Threads::one_by_one);
    const std::vector<double> head_0 = {0.016862, 0.066056, 0.206276, 0.358548, 0.347332,
                                        0.241060, 0.162895, 0.132651, 0.135043, 0.147776};
    const std::vector<double> head_2 = {0.422144, 0.194855, 0.066154, 0.024685, 0.014699,
                                        0.016489, 0.032283, 0.085937, 0.221199, 0.393649};
    for (size_t j = 0; j < head_0.size(); ++j) {
        EXPECT_NEAR(sums[j], head_0[j], 1e-6) << j;
        EXPECT_NEAR(sums[2 * head_0.size() + j], head_2[j], 1e-6) << j;
    }
}

TEST(WindowScores, SurvivesLargeScores) {
    const Kv k(KvType::f16, 1, 200, 64, 3, false);
    const std::vector<float> q = random_floats(4 * 64, 5, 1e5F);
    const std::vector<float> sums = sums_of({q.data(), k.view(), 200, 4, 1, 1, 64, 0.125F}, 1, Threads::one_by_one);
    double total = 0;
    for (const float value : sums) {
        ASSERT_TRUE(std::isfinite(value));
        total += static_cast<double>(value);
    }
    EXPECT_LE(total, 4.0 + 1e-5);
}

}  // namespace
}  // namespace fastkv::kernels
