// Vectors of float32 from rows of K and V as they are stored. Included once per target of Highway.
#if defined(FASTKV_KERNELS_LOAD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FASTKV_KERNELS_LOAD_INL_H_
#undef FASTKV_KERNELS_LOAD_INL_H_
#else
#define FASTKV_KERNELS_LOAD_INL_H_
#endif

#include <hwy/highway.h>

#include <cstring>

#include "kernels/kv_view.h"

HWY_BEFORE_NAMESPACE();
namespace fastkv::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using VF = hn::Vec<DF>;

/// A block of 32 values in ggml's q8_0.
struct Q8Block {
    hwy::float16_t scale;
    int8_t values[kv_block_values];
};
static_assert(sizeof(Q8Block) == q8_0_bytes);

/// The same in q4_0: value j is the low half of byte j, value j + 16 the high half, each 8 too large.
struct Q4Block {
    hwy::float16_t scale;
    uint8_t halves[kv_block_values / 2];
};
static_assert(sizeof(Q4Block) == q4_0_bytes);

/// The same in q5_0: four bits as in q4_0, the fifth of value j in bit j of `fifth`, each 16 too large.
struct Q5Block {
    hwy::float16_t scale;
    uint8_t fifth[kv_block_values / 8];
    uint8_t halves[kv_block_values / 2];
};
static_assert(sizeof(Q5Block) == q5_0_bytes);

HWY_INLINE VF block_scale(const hwy::float16_t* scale) {
    const hn::CappedTag<float, 1> one;
    const auto value = hn::PromoteTo(one, hn::LoadU(hn::Rebind<hwy::float16_t, decltype(one)>(), scale));
    return hn::Set(DF(), hn::GetLane(value));
}

/// Components [i, i + lanes) of a row; of blocks, i is a multiple of the lanes.
HWY_INLINE VF load(const float* row, size_t i) { return hn::LoadU(DF(), row + i); }
HWY_INLINE VF load(const hwy::float16_t* row, size_t i) {
    return hn::PromoteTo(DF(), hn::LoadU(hn::Rebind<hwy::float16_t, DF>(), row + i));
}
HWY_INLINE VF load(const Q8Block* row, size_t i) {
    const DF d;
    const hn::RebindToSigned<DF> d_word;
    const Q8Block* block = row + i / kv_block_values;
    const auto bytes = hn::LoadU(hn::Rebind<int8_t, DF>(), block->values + i % kv_block_values);
    return hn::Mul(hn::ConvertTo(d, hn::PromoteTo(d_word, bytes)), block_scale(&block->scale));
}
/// Halves [i, i + lanes) of a block's 32: the lower ones of its 16 bytes, then the upper ones.
HWY_INLINE hn::Vec<hn::RebindToSigned<DF>> load_halves(const uint8_t* halves, size_t i) {
    const hn::RebindToSigned<DF> d_word;
    const auto bytes = hn::LoadU(hn::Rebind<uint8_t, DF>(), halves + i % (kv_block_values / 2));
    const auto both = hn::PromoteTo(d_word, bytes);
    return i >= kv_block_values / 2 ? hn::ShiftRight<4>(both) : hn::And(both, hn::Set(d_word, 15));
}
HWY_INLINE VF load(const Q4Block* row, size_t i) {
    const hn::RebindToSigned<DF> d_word;
    const Q4Block* block = row + i / kv_block_values;
    const auto values = hn::Sub(load_halves(block->halves, i % kv_block_values), hn::Set(d_word, 8));
    return hn::Mul(hn::ConvertTo(DF(), values), block_scale(&block->scale));
}
HWY_INLINE VF load(const Q5Block* row, size_t i) {
    const hn::RebindToSigned<DF> d_word;
    const Q5Block* block = row + i / kv_block_values;
    uint32_t fifth;
    std::memcpy(&fifth, block->fifth, sizeof(fifth));
    const auto bits = hn::Set(d_word, static_cast<int32_t>(fifth >> (i % kv_block_values)));
    const auto is_large = hn::TestBit(bits, hn::Shl(hn::Set(d_word, 1), hn::Iota(d_word, 0)));
    const auto subtract = hn::IfThenZeroElse(is_large, hn::Set(d_word, 16));
    const auto values = hn::Sub(load_halves(block->halves, i % kv_block_values), subtract);
    return hn::Mul(hn::ConvertTo(DF(), values), block_scale(&block->scale));
}

}  // namespace HWY_NAMESPACE
}  // namespace fastkv::kernels
HWY_AFTER_NAMESPACE();

#endif
