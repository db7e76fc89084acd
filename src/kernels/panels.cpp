// Written once with Highway, compiled for every instruction set, chosen when the program runs.
#include "kernels/panels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/panels.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace fastkv::kernels::panels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SCALAR  // has no vectors
HWY_INLINE void transpose(const uint32_t* const source[4], uint32_t* target, size_t stride) {
    for (size_t i = 0; i < 16; ++i) target[i / 4 * stride + i % 4] = source[i % 4][i / 4];
}
#else
/// 4 rows of 4 words, turned: target[i][j] = source[j][i], rows of each so many words apart.
HWY_INLINE void transpose(const uint32_t* const source[4], uint32_t* target, size_t stride) {
    const hn::FixedTag<uint32_t, 4> d;
    const hn::FixedTag<uint64_t, 2> pairs;
    const auto a = hn::LoadU(d, source[0]), b = hn::LoadU(d, source[1]);
    const auto c = hn::LoadU(d, source[2]), e = hn::LoadU(d, source[3]);
    const auto ab_lower = hn::BitCast(pairs, hn::InterleaveLower(d, a, b));
    const auto ab_upper = hn::BitCast(pairs, hn::InterleaveUpper(d, a, b));
    const auto ce_lower = hn::BitCast(pairs, hn::InterleaveLower(d, c, e));
    const auto ce_upper = hn::BitCast(pairs, hn::InterleaveUpper(d, c, e));
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, ab_lower, ce_lower)), d, target);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, ab_lower, ce_lower)), d, target + stride);
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, ab_upper, ce_upper)), d, target + 2 * stride);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, ab_upper, ce_upper)), d, target + 3 * stride);
}
#endif

/// From rows of k values, one for every column: a word holds two values of k, as they lie in the row already.
void pack_columns(const uint16_t* source, size_t row_stride, int k, uint32_t* target) {
    for (int pair = 0; pair < k / 2; pair += 4, target += 4 * panel_cols) {
        for (int col = 0; col < panel_cols; col += 4) {
            const uint32_t* rows[4];
            for (size_t i = 0; i < 4; ++i) {
                rows[i] =
                    reinterpret_cast<const uint32_t*>(source + (static_cast<size_t>(col) + i) * row_stride) + pair;
            }
            transpose(rows, target + col, panel_cols);
        }
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace fastkv::kernels::panels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace fastkv::kernels::panels {

HWY_EXPORT(pack_columns);

namespace {

/// From rows of panel_cols values, one for every value of k: each pair of them side by side, value by value.
void pack_rows(const uint16_t* source, size_t row_stride, int k, uint32_t* target) {
    for (int pair = 0; pair < k / 2; ++pair, source += 2 * row_stride, target += panel_cols) {
        for (int col = 0; col < panel_cols; ++col) {
            target[col] = source[col] | static_cast<uint32_t>(source[row_stride + static_cast<size_t>(col)]) << 16;
        }
    }
}

}  // namespace

void pack_operand(int n, int k, OperandOrder order, const void* source, size_t row_stride, void* packed) {
    const auto* values = static_cast<const uint16_t*>(source);
    auto* target = static_cast<uint32_t*>(packed);
    for (int col = 0; col < n;
         col += panel_cols, target += static_cast<size_t>(panel_cols) * static_cast<size_t>(k / 2)) {
        if (order == OperandOrder::transposed) {
            HWY_DYNAMIC_DISPATCH(pack_columns)(values + static_cast<size_t>(col) * row_stride, row_stride, k, target);
        } else {
            pack_rows(values + col, row_stride, k, target);
        }
    }
}

}  // namespace fastkv::kernels::panels

#endif
