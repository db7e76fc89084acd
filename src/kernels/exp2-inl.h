// 2^x on whole vectors, for every softmax of the project. Included once per target of Highway.
#if defined(FASTKV_KERNELS_EXP2_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FASTKV_KERNELS_EXP2_INL_H_
#undef FASTKV_KERNELS_EXP2_INL_H_
#else
#define FASTKV_KERNELS_EXP2_INL_H_
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace fastkv::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// How exact 2^x must be. `exact`: within 2e-9 before float32 rounds, and exactly 0 below -126, for -inf and NaN.
/// `fast` is for probabilities that are then rounded to bf16: within 7.5e-5, a twenty-fifth of that rounding's error,
/// and 2^-126 at most where `exact` gives 0.
enum class Exp2 { fast, exact };

#undef FASTKV_SCALES_BY_POWERS
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
#define FASTKV_SCALES_BY_POWERS 1
/// AVX-512 splits off the fraction and scales by a power of two in an instruction each: 2^x = 2^floor(x)·2^f, with f in
/// [0, 1). Exactly 0 for -inf, and where the result is too small for a float32.
HWY_INLINE __m512 fast_exp2(__m512 x) {
    constexpr int fraction_above_floor = 0x09;  // without raising the flag for inexact results
    const __m512 f = _mm512_reduce_ps(x, fraction_above_floor);
    __m512 p = _mm512_set1_ps(0.07802452F);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.22606716F));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.69583356F));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.9999252F));
    return _mm512_scalef_ps(p, x);
}
#else
#define FASTKV_SCALES_BY_POWERS 0
#endif

/// 2^x for x < 127. x is split into its nearest integer, which goes straight into the exponent's bits, and a
/// fraction in [-0.5, 0.5], for which a polynomial that minimises the relative error is evaluated.
template <Exp2 precision, class D, class V = hn::Vec<D>>
HWY_INLINE V exp2(D d, V x) {
#if FASTKV_SCALES_BY_POWERS
    if constexpr (precision == Exp2::fast && sizeof(V) == sizeof(__m512)) return V{fast_exp2(x.raw)};
#endif
    const hn::RebindToSigned<D> di;
    const V lowest = hn::Set(d, -126.0F);
    if constexpr (precision == Exp2::fast) {
        x = hn::Max(x, lowest);
    }
    const V magic = hn::Set(d, 12582912.0F);  // 1.5·2^23: adding it leaves the nearest integer in the low bits
    const V shifted = hn::Add(x, magic);
    const V f = hn::Sub(x, hn::Sub(shifted, magic));
    V p;
    if constexpr (precision == Exp2::fast) {
        p = hn::Set(d, 0.05517166909261008F);
        p = hn::MulAdd(p, f, hn::Set(d, 0.24261112222375328F));
        p = hn::MulAdd(p, f, hn::Set(d, 0.6932609854542462F));
        p = hn::MulAdd(p, f, hn::Set(d, 0.9999280735351597F));
    } else {
        p = hn::Set(d, 0.00015345812165464646F);
        p = hn::MulAdd(p, f, hn::Set(d, 0.0013399931209352263F));
        p = hn::MulAdd(p, f, hn::Set(d, 0.009618488956497912F));
        p = hn::MulAdd(p, f, hn::Set(d, 0.05550328776997963F));
        p = hn::MulAdd(p, f, hn::Set(d, 0.2402264689063981F));
        p = hn::MulAdd(p, f, hn::Set(d, 0.6931472057372529F));
        p = hn::MulAdd(p, f, hn::Set(d, 1.0F));
    }
    // The magic number's own bits leave the word at the left.
    const auto exponent = hn::ShiftLeft<23>(hn::BitCast(di, shifted));
    const V result = hn::BitCast(d, hn::Add(hn::BitCast(di, p), exponent));
    if constexpr (precision == Exp2::fast) {
        return result;
    } else {
        return hn::IfThenElseZero(hn::Gt(x, lowest), result);
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace fastkv::kernels
HWY_AFTER_NAMESPACE();

#endif
