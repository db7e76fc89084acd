// Vectors of float32 from rows of K and V as they are stored. Included once per target of Highway.
#if defined(FASTKV_KERNELS_LOAD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FASTKV_KERNELS_LOAD_INL_H_
#undef FASTKV_KERNELS_LOAD_INL_H_
#else
#define FASTKV_KERNELS_LOAD_INL_H_
#endif

#include <hwy/highway.h>

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
    int8_t values[q8_0_values];
};
static_assert(sizeof(Q8Block) == q8_0_bytes);

/// Components [i, i + lanes) of a row; for q8_0, i is a multiple of the lanes.
HWY_INLINE VF load(const float* row, size_t i) { return hn::LoadU(DF(), row + i); }
HWY_INLINE VF load(const hwy::float16_t* row, size_t i) {
    return hn::PromoteTo(DF(), hn::LoadU(hn::Rebind<hwy::float16_t, DF>(), row + i));
}
HWY_INLINE VF load(const Q8Block* row, size_t i) {
    const DF d;
    const hn::RebindToSigned<DF> d_word;
    const hn::CappedTag<float, 1> one;
    const Q8Block* block = row + i / q8_0_values;
    const auto scale = hn::PromoteTo(one, hn::LoadU(hn::Rebind<hwy::float16_t, decltype(one)>(), &block->scale));
    const auto bytes = hn::LoadU(hn::Rebind<int8_t, DF>(), block->values + i % q8_0_values);
    return hn::Mul(hn::ConvertTo(d, hn::PromoteTo(d_word, bytes)), hn::Set(d, hn::GetLane(scale)));
}

}  // namespace HWY_NAMESPACE
}  // namespace fastkv::kernels
HWY_AFTER_NAMESPACE();

#endif
