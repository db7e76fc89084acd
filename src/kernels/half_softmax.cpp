#include "kernels/half_softmax.h"

#include "kernels/half_target.h"

#if FASTKV_HAS_HALF

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "kernels/panels.h"

namespace fastkv::kernels::half {

namespace {

using panels::panel_cols;

/// Rows whose numbers are found together, so that what one of them waits for is done while others do.
constexpr int row_group = 16;
constexpr int max_panels = max_score_cols / panel_cols;
constexpr float infinity = std::numeric_limits<float>::infinity();

/// What a group's scores are multiplied by, and what is then subtracted, as float16: score · factor - reference <= 0.
struct GroupScale {
    uint16_t factor[max_panels][row_group];
    uint16_t reference[row_group];
};

FASTKV_HALF inline __m512h all_of(uint16_t half) {
    return _mm512_castsi512_ph(_mm512_set1_epi16(static_cast<int16_t>(half)));
}

FASTKV_HALF inline void store_halves(__m512 values, uint16_t* target) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target), _mm256_castph_si256(_mm512_cvtxps_ph(values)));
}

/// Products of both scales, within float16: hidden scores stay -inf, which times 0 would not be a number. Scores whose
/// factor is below 2^-24 are below 0.001.
FASTKV_HALF void find_factors(__m512 row_scales, const float* panel_scales, int n_panel, GroupScale& scale) {
    const __m512 smallest = _mm512_set1_ps(0x1p-24F), largest = _mm512_set1_ps(0x1p15F);
    for (int panel = 0; panel < n_panel; ++panel) {
        const __m512 exact = _mm512_mul_ps(row_scales, _mm512_set1_ps(panel_scales[panel]));
        // of two operands, one of which is not a number, the second is taken
        store_halves(_mm512_min_ps(largest, _mm512_max_ps(smallest, exact)), scale.factor[panel]);
    }
}

FASTKV_HALF inline float largest_score(const uint16_t* scores, int n_panel, const GroupScale& scale, int row) {
    __m512h largest = _mm512_set1_ph(static_cast<_Float16>(-infinity));
    for (int panel = 0; panel < n_panel; ++panel, scores += panel_cols) {
        const __m512h factor = all_of(scale.factor[panel][row]);
        largest = _mm512_max_ph(largest, _mm512_mul_ph(_mm512_loadu_ph(scores), factor));
        largest = _mm512_max_ph(largest, _mm512_mul_ph(_mm512_loadu_ph(scores + 32), factor));
    }
    return static_cast<float>(_mm512_reduce_max_ph(largest));
}

/// A row none of whose scores is above -65,504, which float16 ends with: those that are not hidden become as much.
/// Returns the largest score, -inf if all are hidden.
FASTKV_HALF float raise_scores(uint16_t* scores, int n_panel, const GroupScale& scale, int row) {
    const __m512h hidden = _mm512_set1_ph(static_cast<_Float16>(-infinity));
    for (int panel = 0; panel < n_panel; ++panel) {
        const __m512h lowest =
            _mm512_div_ph(_mm512_set1_ph(static_cast<_Float16>(-65504)), all_of(scale.factor[panel][row]));
        for (uint16_t* end = scores + panel_cols; scores < end; scores += 32) {
            const __m512h own = _mm512_loadu_ph(scores);
            const __mmask32 seen = _mm512_cmp_ph_mask(own, hidden, _CMP_GT_OQ);
            _mm512_storeu_ph(scores, _mm512_mask_max_ph(own, seen, own, lowest));
        }
    }
    return largest_score(scores - n_panel * panel_cols, n_panel, scale, row);
}

/// 4·2^x for x <= 0, 0 for -inf: 2^floor(x)·2^f with f in [0, 1), as fast_exp2() of exp2-inl.h.
FASTKV_HALF inline __m512h four_exponentials(__m512h x) {
    constexpr int fraction_above_floor = 0x09;  // without raising the flag for inexact results
    const __m512h f = _mm512_reduce_ph(x, fraction_above_floor);
    __m512h p = _mm512_set1_ph(static_cast<_Float16>(4 * 0.07802452F));
    p = _mm512_fmadd_ph(p, f, _mm512_set1_ph(static_cast<_Float16>(4 * 0.22606716F)));
    p = _mm512_fmadd_ph(p, f, _mm512_set1_ph(static_cast<_Float16>(4 * 0.69583356F)));
    p = _mm512_fmadd_ph(p, f, _mm512_set1_ph(static_cast<_Float16>(4 * 0.9999252F)));
    return _mm512_scalef_ph(p, x);
}

FASTKV_HALF inline float sum_of(__m512h halves) {
    const __m512i bits = _mm512_castph_si512(halves);
    const __m512 lower = _mm512_cvtxph_ps(_mm256_castsi256_ph(_mm512_castsi512_si256(bits)));
    const __m512 upper = _mm512_cvtxph_ps(_mm256_castsi256_ph(_mm512_extracti64x4_epi64(bits, 1)));
    return _mm512_reduce_add_ps(_mm512_add_ps(lower, upper));
}

/// A row's probabilities, in place of its scores; returns their sum. A score that is not a number makes all so.
FASTKV_HALF inline float find_probabilities(uint16_t* scores, int n_panel, const GroupScale& scale, int row) {
    const __m512h reference = all_of(scale.reference[row]), zero = _mm512_setzero_ph();
    __m512h sum_a = zero, sum_b = zero;
    for (int panel = 0; panel < n_panel; ++panel, scores += panel_cols) {
        const __m512h factor = all_of(scale.factor[panel][row]);
        const __m512h a = _mm512_fmsub_ph(_mm512_loadu_ph(scores), factor, reference);
        const __m512h b = _mm512_fmsub_ph(_mm512_loadu_ph(scores + 32), factor, reference);
        const __m512h p_a = four_exponentials(_mm512_min_ph(zero, a));
        const __m512h p_b = four_exponentials(_mm512_min_ph(zero, b));
        _mm512_storeu_ph(scores, p_a);
        _mm512_storeu_ph(scores + 32, p_b);
        sum_a = _mm512_add_ph(sum_a, p_a);
        sum_b = _mm512_add_ph(sum_b, p_b);
    }
    return sum_of(_mm512_add_ph(sum_a, sum_b));
}

/// Brings the largest scores of a group's rows up to date, rounded up to float16; decay [row_group] becomes what their
/// sums so far are to be multiplied by.
FASTKV_HALF void renew(__mmask16 present, const float* step_max, float* max, GroupScale& scale, float* decay) {
    constexpr int upwards = _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC;
    const __m512 before = _mm512_maskz_loadu_ps(present, max);
    const __m512 exact = _mm512_min_ps(_mm512_max_ps(before, _mm512_load_ps(step_max)), _mm512_set1_ps(65504.0F));
    const __m512 now = _mm512_cvtxph_ps(_mm512_cvtx_roundps_ph(exact, upwards));
    // A row that has seen no key yet has max = -inf: any other reference makes its probabilities 0.
    const __mmask16 hidden = _mm512_cmp_ps_mask(now, _mm512_set1_ps(-infinity), _CMP_EQ_OQ);
    const __m512 reference = _mm512_mask_mov_ps(now, hidden, _mm512_setzero_ps());
    store_halves(reference, scale.reference);
    _mm512_mask_storeu_ps(max, present, now);
    _mm512_store_ps(decay, _mm512_sub_ps(before, reference));
    for (int r = 0; r < row_group; ++r) decay[r] = decay[r] == 0 ? 1.0F : std::exp2(decay[r]);
}

}  // namespace

FASTKV_HALF void softmax_step(uint16_t* scores, int rows, int cols, const ScoreScales& scales,
                              const OnlineSoftmax& online) {
    const int n_panel = cols / panel_cols;
    for (int first = 0; first < rows; first += row_group) {
        const int n = std::min(row_group, rows - first);
        const auto present = static_cast<__mmask16>((1U << n) - 1U);
        uint16_t* group = scores + static_cast<size_t>(first) * static_cast<size_t>(cols);
        GroupScale scale;
        alignas(64) float step_max[row_group] = {}, decay[row_group];
        find_factors(_mm512_maskz_loadu_ps(present, scales.row + first), scales.panel, n_panel, scale);
        for (int r = 0; r < n; ++r) {
            uint16_t* row = group + r * cols;
            step_max[r] = largest_score(row, n_panel, scale, r);
            if (step_max[r] == -infinity) step_max[r] = raise_scores(row, n_panel, scale, r);
        }
        const OnlineSoftmax own = online.from(static_cast<size_t>(first));
        renew(present, step_max, own.max, scale, decay);
        for (int r = 0; r < n; ++r) {
            own.decay[r] = decay[r];
            own.sum[r] = own.sum[r] * decay[r] + find_probabilities(group + r * cols, n_panel, scale, r);
        }
    }
}

}  // namespace fastkv::kernels::half

#else  // another processor or system: half::available() says so, and nothing else is called

namespace fastkv::kernels::half {

void softmax_step(uint16_t*, int, int, const ScoreScales&, const OnlineSoftmax&) {}

}  // namespace fastkv::kernels::half

#endif
