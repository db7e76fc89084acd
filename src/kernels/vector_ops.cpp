// Written once with Highway, compiled for every instruction set, chosen when the program runs.
#include "kernels/vector_ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/vector_ops.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "kernels/exp2-inl.h"
#include "kernels/load-inl.h"
#include "kernels/simd.h"

HWY_BEFORE_NAMESPACE();
namespace fastkv::kernels {
namespace HWY_NAMESPACE {

uint16_t bf16_of(float value) {
    uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof(bits));
    return static_cast<uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

#if HWY_TARGET == HWY_SCALAR  // has no narrower vectors to put together
HWY_INLINE void store_bf16_even(VF lower, VF upper, uint16_t* target) {
    target[0] = bf16_of(hn::GetLane(lower));
    target[1] = bf16_of(hn::GetLane(upper));
}

HWY_INLINE void store_bf16_up(VF lower, VF upper, uint16_t* target) { store_bf16_even(lower, upper, target); }
#else
/// The upper halves of the words of two vectors: bf16, once they are rounded.
HWY_INLINE void store_upper_halves(hn::Vec<hn::RebindToUnsigned<DF>> a, hn::Vec<hn::RebindToUnsigned<DF>> b,
                                   uint16_t* target) {
    const hn::Repartition<uint16_t, DF> d16;
    hn::StoreU(hn::ConcatOdd(d16, hn::BitCast(d16, b), hn::BitCast(d16, a)), d16, target);
}

#if HWY_TARGET == HWY_AVX3
/// Rounds two vectors to nearest even and stores them as bf16 in one instruction, of which Highway's targets do not
/// know; false where the processor lacks it.
HWY_INLINE bool round_natively(VF lower, VF upper, uint16_t* target) {
    if (!native_bf16) return false;
    __m512i rounded;
    asm("vcvtne2ps2bf16 %2, %1, %0" : "=v"(rounded) : "v"(upper.raw), "v"(lower.raw));
    _mm512_storeu_si512(target, rounded);
    return true;
}
#else
HWY_INLINE bool round_natively(VF, VF, uint16_t*) { return false; }
#endif

/// Two vectors of float32, rounded to nearest even, as one of bf16.
HWY_INLINE void store_bf16_even(VF lower, VF upper, uint16_t* target) {
    if (round_natively(lower, upper, target)) return;
    const hn::RebindToUnsigned<DF> du;
    const auto round = [&](VF v) HWY_ATTR {
        const auto bits = hn::BitCast(du, v);
        const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1U));
        return hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7FFFU)));
    };
    store_upper_halves(round(lower), round(upper), target);
}

/// The same for probabilities: ties may go up, which costs one instruction instead of four.
HWY_INLINE void store_bf16_up(VF lower, VF upper, uint16_t* target) {
    if (round_natively(lower, upper, target)) return;
    const hn::RebindToUnsigned<DF> du;
    const auto half = hn::Set(du, 0x8000U);
    store_upper_halves(hn::Add(hn::BitCast(du, lower), half), hn::Add(hn::BitCast(du, upper), half), target);
}
#endif

/// Two vectors from component `i` of `source` on, times factor, stored as the target's type.
template <class From>
HWY_INLINE void convert_pair(const From* source, size_t i, VF factor, uint16_t* target) {
    const size_t lanes = hn::Lanes(DF());
    store_bf16_even(hn::Mul(load(source, i), factor), hn::Mul(load(source, i + lanes), factor), target);
}
template <class From>
HWY_INLINE void convert_pair(const From* source, size_t i, VF factor, float* target) {
    const DF d;
    const size_t lanes = hn::Lanes(d);
    hn::StoreU(hn::Mul(load(source, i), factor), d, target);
    hn::StoreU(hn::Mul(load(source, i + lanes), factor), d, target + lanes);
}

template <class From, class To>
void convert(const From* source, int n, float factor, To* target, int n_padded) {
    const DF d;
    const int step = 2 * static_cast<int>(hn::Lanes(d));
    const VF vector_factor = hn::Set(d, factor);
    int i = 0;
    for (; i + step <= n; i += step) {
        convert_pair(source, static_cast<size_t>(i), vector_factor, target + i);
    }
    if constexpr (!std::is_same_v<From, Q8Block>) {  // whose rows are whole vectors
        if (i < n) {                                 // the rest by way of whole vectors
            From from[2 * hn::MaxLanes(d)] = {};
            To to[2 * hn::MaxLanes(d)];
            std::memcpy(from, source + i, static_cast<size_t>(n - i) * sizeof(From));
            convert_pair(from, 0, vector_factor, to);
            std::memcpy(target + i, to, static_cast<size_t>(n - i) * sizeof(To));
        }
    }
    std::fill(target + n, target + n_padded, To{});
}

template <class From>
void convert_any(const From* source, int n, float factor, GemmType type, void* target, int n_padded) {
    if (type == GemmType::bf16) {
        convert(source, n, factor, static_cast<uint16_t*>(target), n_padded);
    } else {
        convert(source, n, factor, static_cast<float*>(target), n_padded);
    }
}

void convert_f32(const float* source, int n, float factor, GemmType type, void* target, int n_padded) {
    convert_any(source, n, factor, type, target, n_padded);
}

void convert_f16(const void* source, int n, GemmType type, void* target, int n_padded) {
    convert_any(static_cast<const hwy::float16_t*>(source), n, 1.0F, type, target, n_padded);
}

void convert_q8_0(const void* source, int n, GemmType type, void* target, int n_padded) {
    convert_any(static_cast<const Q8Block*>(source), n, 1.0F, type, target, n_padded);
}

void convert_q5_0(const void* source, int n, GemmType type, void* target, int n_padded) {
    convert_any(static_cast<const Q5Block*>(source), n, 1.0F, type, target, n_padded);
}

void convert_q4_0(const void* source, int n, GemmType type, void* target, int n_padded) {
    convert_any(static_cast<const Q4Block*>(source), n, 1.0F, type, target, n_padded);
}

void store_f16(const float* source, int n, hwy::float16_t* target) {
    const hn::Rebind<hwy::float16_t, DF> d16;
    const int lanes = static_cast<int>(hn::Lanes(DF()));
    int i = 0;
    for (; i + lanes <= n; i += lanes) hn::StoreU(hn::DemoteTo(d16, hn::LoadU(DF(), source + i)), d16, target + i);
    const hn::CappedTag<float, 1> one;
    const hn::Rebind<hwy::float16_t, decltype(one)> one16;
    for (; i < n; ++i) hn::StoreU(hn::DemoteTo(one16, hn::LoadU(one, source + i)), one16, target + i);
}

HWY_INLINE void store_pair(VF a, VF b, uint16_t* target) { store_bf16_even(a, b, target); }
HWY_INLINE void store_pair(VF a, VF b, float* target) {
    const DF d;
    hn::StoreU(a, d, target);
    hn::StoreU(b, d, target + hn::Lanes(d));
}
HWY_INLINE void store_one(float value, uint16_t* target) { *target = bf16_of(value); }
HWY_INLINE void store_one(float value, float* target) { *target = value; }

float sum_of_squares(const float* x, int n) {
    const DF d;
    const int lanes = static_cast<int>(hn::Lanes(d));
    VF a = hn::Zero(d);
    VF b = hn::Zero(d);
    int i = 0;
    for (; i + 2 * lanes <= n; i += 2 * lanes) {
        const VF lower = hn::LoadU(d, x + i);
        const VF upper = hn::LoadU(d, x + i + lanes);
        a = hn::MulAdd(lower, lower, a);
        b = hn::MulAdd(upper, upper, b);
    }
    float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(a, b)));
    for (; i < n; ++i) sum += x[i] * x[i];
    return sum;
}

template <class To>
void normalize(const float* x, int n, const float* weight, float eps, To* target, int n_padded) {
    const DF d;
    const int lanes = static_cast<int>(hn::Lanes(d));
    const float scale = 1.0F / std::sqrt(sum_of_squares(x, n) / static_cast<float>(n) + eps);
    const VF vector_scale = hn::Set(d, scale);
    int i = 0;
    for (; i + 2 * lanes <= n; i += 2 * lanes) {
        const VF a = hn::Mul(hn::Mul(hn::LoadU(d, x + i), vector_scale), hn::LoadU(d, weight + i));
        const VF b = hn::Mul(hn::Mul(hn::LoadU(d, x + i + lanes), vector_scale), hn::LoadU(d, weight + i + lanes));
        store_pair(a, b, target + i);
    }
    for (; i < n; ++i) store_one(x[i] * scale * weight[i], target + i);
    std::fill(target + n, target + n_padded, To{});
}

void normalize_any(const float* x, int n, const float* weight, float eps, GemmType type, void* target, int n_padded) {
    if (type == GemmType::bf16) {
        normalize(x, n, weight, eps, static_cast<uint16_t*>(target), n_padded);
    } else {
        normalize(x, n, weight, eps, static_cast<float*>(target), n_padded);
    }
}

/// x / (1 + e^-x). Below -87, where e^-x would overflow, it is 0 to within a denormal.
template <Exp2 precision>
HWY_INLINE VF silu(VF x) {
    const DF d;
    const VF power = hn::Min(hn::Mul(x, hn::Set(d, -log2_e)), hn::Set(d, 126.0F));
    return hn::Div(x, hn::Add(hn::Set(d, 1.0F), exp2<precision>(d, power)));
}

template <class To>
void gate(const float* gates, const float* ups, int n, To* target, int n_padded) {
    const DF d;
    const int lanes = static_cast<int>(hn::Lanes(d));
    constexpr Exp2 precision = sizeof(To) == 2 ? Exp2::fast : Exp2::exact;
    int i = 0;
    for (; i + 2 * lanes <= n; i += 2 * lanes) {
        const VF a = hn::Mul(silu<precision>(hn::LoadU(d, gates + i)), hn::LoadU(d, ups + i));
        const VF b = hn::Mul(silu<precision>(hn::LoadU(d, gates + i + lanes)), hn::LoadU(d, ups + i + lanes));
        store_pair(a, b, target + i);
    }
    for (; i < n; ++i) store_one(gates[i] / (1.0F + std::exp(-gates[i])) * ups[i], target + i);
    std::fill(target + n, target + n_padded, To{});
}

void gate_any(const float* gates, const float* ups, int n, GemmType type, void* target, int n_padded) {
    if (type == GemmType::bf16) {
        gate(gates, ups, n, static_cast<uint16_t*>(target), n_padded);
    } else {
        gate(gates, ups, n, static_cast<float*>(target), n_padded);
    }
}

HWY_INLINE float max_of(const float* row, int cols) {
    const DF d;
    const int lanes = static_cast<int>(hn::Lanes(d));
    VF a = hn::LoadU(d, row);
    VF b = a;
    for (int i = 0; i + 2 * lanes <= cols; i += 2 * lanes) {
        a = hn::Max(a, hn::LoadU(d, row + i));
        b = hn::Max(b, hn::LoadU(d, row + i + lanes));
    }
    return hn::GetLane(hn::MaxOfLanes(d, hn::Max(a, b)));
}

/// 2^(score - max) of one row into `target`; returns their sum.
template <class T>
HWY_INLINE float exponentials(const float* row, int cols, float max, T* target) {
    const DF d;
    const int lanes = static_cast<int>(hn::Lanes(d));
    const VF vector_max = hn::Set(d, max);
    VF sum_a = hn::Zero(d);
    VF sum_b = hn::Zero(d);
    constexpr Exp2 precision = sizeof(T) == 2 ? Exp2::fast : Exp2::exact;
    for (int i = 0; i + 2 * lanes <= cols; i += 2 * lanes) {
        const VF a = exp2<precision>(d, hn::Sub(hn::LoadU(d, row + i), vector_max));
        const VF b = exp2<precision>(d, hn::Sub(hn::LoadU(d, row + i + lanes), vector_max));
        sum_a = hn::Add(sum_a, a);
        sum_b = hn::Add(sum_b, b);
        if constexpr (sizeof(T) == 2) {
            store_bf16_up(a, b, target + i);
        } else {
            hn::StoreU(a, d, target + i);
            hn::StoreU(b, d, target + i + lanes);
        }
    }
    return hn::GetLane(hn::SumOfLanes(d, hn::Add(sum_a, sum_b)));
}

/// Rows whose statistics are renewed together, so that what one of them waits for is done while others do.
constexpr int row_group = 16;

/// Statistics of a group of rows.
struct RowGroup {
    float max[row_group];
    float sum[row_group];
    float decay[row_group];
    float reference[row_group];  ///< what is subtracted from scores
};

/// Brings them up to date, given the largest scores of this step.
HWY_INLINE void renew(const float* step_max, RowGroup& group) {
    const DF d;
    const VF lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
    for (size_t i = 0; i < row_group; i += hn::Lanes(d)) {
        const VF before = hn::LoadU(d, group.max + i);
        const VF now = hn::Max(before, hn::LoadU(d, step_max + i));
        // A row that has seen no key yet has max = -inf: any other reference makes its probabilities 0.
        const VF reference = hn::IfThenElseZero(hn::Gt(now, lowest), now);
        const VF decay = exp2<Exp2::exact>(d, hn::Sub(before, reference));
        hn::StoreU(now, d, group.max + i);
        hn::StoreU(hn::Mul(hn::LoadU(d, group.sum + i), decay), d, group.sum + i);
        hn::StoreU(decay, d, group.decay + i);
        hn::StoreU(reference, d, group.reference + i);
    }
}

/// Up to row_group rows. A probability is written where only scores that have been used already were, as rows follow
/// one another and all within a row goes from left to right: in place works for narrower types too.
template <class T>
HWY_INLINE void softmax_group(float* scores, T* target, int rows, int cols, const OnlineSoftmax& online) {
    const size_t bytes = static_cast<size_t>(rows) * sizeof(float);
    RowGroup group{};
    std::memcpy(group.max, online.max, bytes);
    std::memcpy(group.sum, online.sum, bytes);
    float step_max[row_group] = {};
    for (int r = 0; r < rows; ++r) step_max[r] = max_of(scores + r * cols, cols);
    renew(step_max, group);
    for (int r = 0; r < rows; ++r) {
        group.sum[r] += exponentials(scores + r * cols, cols, group.reference[r], target + r * cols);
    }
    std::memcpy(online.max, group.max, bytes);
    std::memcpy(online.sum, group.sum, bytes);
    std::memcpy(online.decay, group.decay, bytes);
}

template <class T>
HWY_INLINE void softmax_rows(float* scores, int rows, int cols, const OnlineSoftmax& online) {
    for (int first = 0; first < rows; first += row_group) {
        const size_t offset = static_cast<size_t>(first) * static_cast<size_t>(cols);
        softmax_group(scores + offset, reinterpret_cast<T*>(scores) + offset, std::min(row_group, rows - first), cols,
                      online.from(static_cast<size_t>(first)));
    }
}

void softmax_any(float* scores, int rows, int cols, GemmType type, const OnlineSoftmax& online) {
    if (type == GemmType::bf16) {
        softmax_rows<uint16_t>(scores, rows, cols, online);
    } else {
        softmax_rows<float>(scores, rows, cols, online);
    }
}

void scale_all_rows(float* x, int rows, int cols, const float* factor) {
    const DF d;
    const int lanes = static_cast<int>(hn::Lanes(d));
    for (int r = 0; r < rows; ++r) {
        if (factor[r] == 1.0F) {
            continue;
        }
        float* row = x + static_cast<size_t>(r) * static_cast<size_t>(cols);
        const VF vector_factor = hn::Set(d, factor[r]);
        for (int i = 0; i + lanes <= cols; i += lanes) {
            hn::StoreU(hn::Mul(hn::LoadU(d, row + i), vector_factor), d, row + i);
        }
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace fastkv::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fastkv::kernels {

HWY_EXPORT(convert_f32);
HWY_EXPORT(convert_f16);
HWY_EXPORT(convert_q8_0);
HWY_EXPORT(convert_q5_0);
HWY_EXPORT(convert_q4_0);
HWY_EXPORT(store_f16);
HWY_EXPORT(normalize_any);
HWY_EXPORT(gate_any);
HWY_EXPORT(softmax_any);
HWY_EXPORT(scale_all_rows);

void convert_row(const float* source, int n, float factor, GemmType type, void* target, int n_padded) {
    HWY_DYNAMIC_DISPATCH(convert_f32)(source, n, factor, type, target, n_padded);
}

void normalize_row(const float* source, int n, const float* weight, float eps, GemmType type, void* target,
                   int n_padded) {
    HWY_DYNAMIC_DISPATCH(normalize_any)(source, n, weight, eps, type, target, n_padded);
}

void gate_row(const float* gate, const float* up, int n, GemmType type, void* target, int n_padded) {
    HWY_DYNAMIC_DISPATCH(gate_any)(gate, up, n, type, target, n_padded);
}

void convert_kv_row(const void* source, KvType source_type, int n, GemmType type, void* target, int n_padded) {
    switch (source_type) {
        case KvType::f32: return convert_row(static_cast<const float*>(source), n, 1.0F, type, target, n_padded);
        case KvType::f16: return HWY_DYNAMIC_DISPATCH(convert_f16)(source, n, type, target, n_padded);
        case KvType::q8_0: return HWY_DYNAMIC_DISPATCH(convert_q8_0)(source, n, type, target, n_padded);
        case KvType::q5_0: return HWY_DYNAMIC_DISPATCH(convert_q5_0)(source, n, type, target, n_padded);
        case KvType::q4_0: return HWY_DYNAMIC_DISPATCH(convert_q4_0)(source, n, type, target, n_padded);
    }
}

void store_kv_row(const float* source, int n, KvType type, void* target) {
    if (type == KvType::f32) {
        std::memcpy(target, source, static_cast<size_t>(n) * sizeof(float));
    } else {
        HWY_DYNAMIC_DISPATCH(store_f16)(source, n, static_cast<hwy::float16_t*>(target));
    }
}

void softmax_step(float* scores, int rows, int cols, GemmType type, const OnlineSoftmax& online) {
    HWY_DYNAMIC_DISPATCH(softmax_any)(scores, rows, cols, type, online);
}

void scale_rows(float* x, int rows, int cols, const float* factor) {
    HWY_DYNAMIC_DISPATCH(scale_all_rows)(x, rows, cols, factor);
}

}  // namespace fastkv::kernels
#endif
