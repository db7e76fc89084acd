// Written once with Highway, compiled for every instruction set, chosen when the program runs.
#include "kernels/vector_product.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/vector_product.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cstdint>

#include "kernels/aligned_buffer.h"
#include "kernels/panels.h"

HWY_BEFORE_NAMESPACE();
namespace fastkv::kernels::vectors {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using VF = hn::Vec<DF>;
using DU = hn::RebindToUnsigned<DF>;

using panels::panel_cols;

bool has_fma() {
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || HWY_TARGET == HWY_NEON
    return true;
#else
    return false;
#endif
}

/// The bf16 in the lower, or the upper, halves of words.
HWY_INLINE VF lower_halves(hn::Vec<DU> words) { return hn::BitCast(DF(), hn::ShiftLeft<16>(words)); }
HWY_INLINE VF upper_halves(hn::Vec<DU> words) { return hn::BitCast(DF(), hn::And(words, hn::Set(DU(), 0xFFFF0000U))); }

/// Values of k of a panel: as float32 it fills half of a first-level cache of 48 KiB.
constexpr int panel_depth = 96;

/// Sums that stay in registers: rows of C by vectors of columns. Twice as many as a multiply-add takes cycles, times
/// the two that begin in one, or AVX2's half of that.
constexpr int sum_rows = panels::block_rows;
constexpr int sum_vectors = HWY_TARGET == HWY_AVX2 ? 2 : 4;

/// sum_rows rows of C by sum_vectors vectors of columns: (C +) A·B with A [rows][depth] and B [depth][panel_cols].
HWY_INLINE void add_products(const float* a, const float* b, int depth, bool accumulate, float* c, size_t c_stride) {
    const DF d;
    const size_t lanes = hn::Lanes(d);
    VF sum[sum_rows][sum_vectors];
#pragma GCC unroll 4
    for (size_t r = 0; r < sum_rows; ++r) {
#pragma GCC unroll 4
        for (size_t v = 0; v < sum_vectors; ++v) {
            sum[r][v] = accumulate ? hn::LoadU(d, c + r * c_stride + v * lanes) : hn::Zero(d);
        }
    }
    for (int k = 0; k < depth; ++k, b += panel_cols) {
        VF columns[sum_vectors];
#pragma GCC unroll 4
        for (size_t v = 0; v < sum_vectors; ++v) columns[v] = hn::LoadU(d, b + v * lanes);
#pragma GCC unroll 4
        for (int r = 0; r < sum_rows; ++r) {
            const VF value = hn::Set(d, a[r * depth + k]);
#pragma GCC unroll 4
            for (size_t v = 0; v < sum_vectors; ++v) sum[r][v] = hn::MulAdd(value, columns[v], sum[r][v]);
        }
    }
#pragma GCC unroll 4
    for (size_t r = 0; r < sum_rows; ++r) {
#pragma GCC unroll 4
        for (size_t v = 0; v < sum_vectors; ++v) hn::StoreU(sum[r][v], d, c + r * c_stride + v * lanes);
    }
}

/// See panels::multiply().
class Kernel {
  public:
    static constexpr int whole_depth = panel_depth;

    void load_rows(const panels::Rows& rows, int depth) {
        static thread_local AlignedBuffer memory;
        const hn::Rebind<uint16_t, DF> d16;
        const int lanes = static_cast<int>(hn::Lanes(DF()));
        rows_ = memory.reserve_as<float>(static_cast<size_t>(rows.n) * panel_depth);
        float* target = rows_;
        const uint16_t* source = rows.values;
        for (int r = 0; r < rows.n; ++r, source += rows.stride, target += depth) {
            for (int k = 0; k < depth; k += lanes) {
                hn::StoreU(lower_halves(hn::PromoteTo(DU(), hn::LoadU(d16, source + k))), DF(), target + k);
            }
        }
    }

    void load_columns(const uint16_t* panel, int depth, const float*) {
        const int lanes = static_cast<int>(hn::Lanes(DF()));
        const auto* pairs = reinterpret_cast<const uint32_t*>(panel);
        float* target = columns_;
        for (int k = 0; k < depth; k += 2, pairs += panel_cols, target += 2 * panel_cols) {
            for (int col = 0; col < panel_cols; col += lanes) {
                const auto words = hn::LoadU(DU(), pairs + col);
                hn::StoreU(lower_halves(words), DF(), target + col);
                hn::StoreU(upper_halves(words), DF(), target + panel_cols + col);
            }
        }
    }

    void multiply(int row, int depth, bool accumulate, float* c, size_t c_stride) const {
        const float* a = rows_ + static_cast<size_t>(row) * static_cast<size_t>(depth);
        const int step = sum_vectors * static_cast<int>(hn::Lanes(DF()));
        for (int col = 0; col < panel_cols; col += step) {
            add_products(a, columns_ + col, depth, accumulate, c + col, c_stride);
        }
    }

  private:
    float* rows_ = nullptr;                                ///< [rows][depth]
    alignas(64) float columns_[panel_depth * panel_cols];  ///< [depth][panel_cols]
};

void multiply_by_vectors(const ProductShape& shape, const ReadyRows& a, const PackedColumns& b, float* c,
                         const FetchAhead& ahead) {
    Kernel kernel;
    panels::multiply(kernel, shape, a, b, c, ahead);
}

}  // namespace HWY_NAMESPACE
}  // namespace fastkv::kernels::vectors
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace fastkv::kernels::vectors {

HWY_EXPORT(has_fma);
HWY_EXPORT(multiply_by_vectors);

bool available() {
    static const bool yes = HWY_DYNAMIC_DISPATCH(has_fma)();
    return yes;
}

void multiply(const ProductShape& shape, const ReadyRows& a, const PackedColumns& b, float* c,
              const FetchAhead& ahead) {
    HWY_DYNAMIC_DISPATCH(multiply_by_vectors)(shape, a, b, c, ahead);
}

}  // namespace fastkv::kernels::vectors

#endif
