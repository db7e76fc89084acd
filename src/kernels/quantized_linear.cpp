// A block of weights is b_i = d·u_i + m with unsigned integers u, so that a row's product with x_i = s·q_i is
//   Σ_blocks d·s·(Σ u_i·q_i) + m·s·(Σ q_i):
// the inner sum is what VNNI multiplies, 64 weights an instruction; the last term needs no weight but m. Four rows of W
// are read in step, four blocks of each at a time: their 16 scales fill a vector. For one row of x memory is the limit;
// more of them share the unpacking.
#include "kernels/quantized_linear.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/aligned_buffer.h"
#include "kernels/vector_ops.h"

#if defined(__x86_64__)

#include "kernels/quantized_blocks-inl.h"

namespace fastkv::kernels {

namespace {

/// Rows of x in 8 bits, in whole tiles; behind a row's end scales and sums are 0.
struct QuantizedRows {
    const int8_t* values;  ///< [m][n_tile][2][4][16] of four blocks the first halves, then the second
    const float* scales;   ///< [m][n_tile][4]
    const float* sums;     ///< [m][n_tile][2][4] scale · Σ values of the first halves of blocks, and of the second
    int k;

    QuantizedRows from(int row) const {
        const size_t tiles = static_cast<size_t>(row) * tiles_of(k);
        return {values + tiles * tile_values, scales + tiles * tile_blocks, sums + 2 * tiles * tile_blocks, k};
    }
};

/// Asks for memory some rows further on: R rows in step are no pattern that the processor would foresee. Measured at 2
/// to 32 KiB: 4 KiB are within 5 % of the best both where weights come from memory and where they come from the last
/// cache.
FASTKV_VNNI inline void fetch_ahead(const uint8_t* from, size_t bytes) {
    constexpr size_t distance = 4096, line = 64;
    for (size_t at = 0; at < bytes; at += line) {
        _mm_prefetch(reinterpret_cast<const char*>(from + distance + at), _MM_HINT_T1);
    }
}

/// Products of four rows of W with one row of x, as they grow: four lanes of each block of a tile.
struct Sums {
    __m512 rows[tile_rows];  ///< Σ d·s·(Σ u·q)
    __m512 minima;           ///< [4][4] Σ m·s·(Σ q) of each row's blocks
};

/// The four products.
FASTKV_VNNI inline __m128 totals(const Sums& sum) {
    const __m512 ab =
        _mm512_add_ps(_mm512_unpacklo_ps(sum.rows[0], sum.rows[1]), _mm512_unpackhi_ps(sum.rows[0], sum.rows[1]));
    const __m512 ce =
        _mm512_add_ps(_mm512_unpacklo_ps(sum.rows[2], sum.rows[3]), _mm512_unpackhi_ps(sum.rows[2], sum.rows[3]));
    const __m512 abce = _mm512_add_ps(_mm512_shuffle_ps(ab, ce, 0x44), _mm512_shuffle_ps(ab, ce, 0xEE));
    const __m512i turn = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    const __m512 all = _mm512_add_ps(abce, _mm512_permutexvar_ps(turn, sum.minima));
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

FASTKV_VNNI inline __m512 four_times(const float* of_blocks) { return _mm512_broadcast_f32x4(_mm_load_ps(of_blocks)); }

/// d·s of a tile of four rows, [tile_rows][tile_blocks], for blocks and for their halves.
struct HalfScales {
    __m512 first;
    __m512 second;
};
FASTKV_VNNI inline __m512 scale(const Factors& w, const float* x_scales) {
    return _mm512_mul_ps(w.d, four_times(x_scales));
}
FASTKV_VNNI inline HalfScales scale(const HalfFactors& w, const float* x_scales) {
    return {scale(w.first, x_scales), scale(w.second, x_scales)};
}

/// minima += the terms of m.
FASTKV_VNNI inline __m512 add_minima(__m512 minima, const HalfFactors& w, const float* x_sums) {
    minima = _mm512_fmadd_ps(w.first.m, four_times(x_sums), minima);
    return _mm512_fmadd_ps(w.second.m, four_times(x_sums + tile_blocks), minima);
}
FASTKV_VNNI inline __m512 add_minima(__m512 minima, const Factors& w, const float* x_sums) {
    return add_minima(minima, {w, w}, x_sums);
}

/// sum += the products of a tile of one row with 128 values q of x, scaled by the lanes that are the row's `own`.
FASTKV_VNNI inline __m512 add(__m512 sum, const Integers& u, const int8_t* q, const HalfScales& scales, __m512i own) {
    const __m512i none = _mm512_setzero_si512();
    const __m512i first = _mm512_dpbusd_epi32(none, u.first, _mm512_load_si512(q));
    const __m512i second = _mm512_dpbusd_epi32(none, u.second, _mm512_load_si512(q + tile_values / 2));
    sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(first), _mm512_permutexvar_ps(own, scales.first), sum);
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(second), _mm512_permutexvar_ps(own, scales.second), sum);
}
FASTKV_VNNI inline __m512 add(__m512 sum, const Integers& u, const int8_t* q, __m512 scales, __m512i own) {
    const __m512i first = _mm512_dpbusd_epi32(_mm512_setzero_si512(), u.first, _mm512_load_si512(q));
    const __m512i both = _mm512_dpbusd_epi32(first, u.second, _mm512_load_si512(q + tile_values / 2));
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(both), _mm512_permutexvar_ps(own, scales), sum);
}

/// `R` neighbouring rows of W (1 or 4) times the first `M` rows of x. y is the value of the first row of both.
template <class Block, int R, int M>
FASTKV_VNNI void dot(const uint8_t* row, size_t row_bytes, const QuantizedRows& x, Rows y) {
    const size_t n_tile = tiles_of(x.k);
    const __m512i block_of_lane = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
    Sums sum[M];
    for (int m = 0; m < M; ++m) {
        for (__m512& of_row : sum[m].rows) of_row = _mm512_setzero_ps();
        sum[m].minima = _mm512_setzero_ps();
    }
    for (size_t index = 0; index < n_tile; ++index) {
        constexpr size_t step_bytes = R * Block::tile_bytes();
        fetch_ahead(row + index * step_bytes, step_bytes);
        Tile tile = Block::tile(row, index, x.k / block_values);
        const auto factors = Block::template factors<R>(tile, row_bytes);
        decltype(scale(factors, x.scales)) scales[M];
        for (int m = 0; m < M; ++m) {
            const size_t at = (static_cast<size_t>(m) * n_tile + index) * tile_blocks;
            scales[m] = scale(factors, x.scales + at);
            sum[m].minima = add_minima(sum[m].minima, factors, x.sums + 2 * at);
        }
        for (int r = 0; r < R; ++r, tile.data += row_bytes) {
            const Integers u = Block::integers(tile);
            const __m512i own = _mm512_add_epi32(block_of_lane, _mm512_set1_epi32(r * tile_blocks));
            for (int m = 0; m < M; ++m) {
                const int8_t* q = x.values + (static_cast<size_t>(m) * n_tile + index) * tile_values;
                sum[m].rows[r] = add(sum[m].rows[r], u, q, scales[m], own);
            }
        }
    }
    const __mmask8 rows = R == 1 ? 0x1 : 0xF;
    for (int m = 0; m < M; ++m) _mm_mask_storeu_ps(y.data + static_cast<size_t>(m) * y.stride, rows, totals(sum[m]));
}

/// `R` rows of W, as they come from memory, times m rows of x: as many of these at a time as the registers hold.
template <class Block, int R>
void dot_all(const uint8_t* row, size_t row_bytes, const QuantizedRows& x, int m, Rows y) {
    int done = 0;
    const auto next = [&](auto count) {
        dot<Block, R, count.value>(row, row_bytes, x.from(done),
                                   {y.data + static_cast<size_t>(done) * y.stride, y.stride});
        done += count.value;
    };
    while (m - done >= 4) next(std::integral_constant<int, 4>{});
    if (m - done == 3) next(std::integral_constant<int, 3>{});
    if (m - done == 2) next(std::integral_constant<int, 2>{});
    if (m - done == 1) next(std::integral_constant<int, 1>{});
}

/// y[m][first, last) = m rows of x times rows [first, last) of W.
void multiply_rows(const QuantizedMatrix& w, const QuantizedRows& x, int m, int first, int last, Rows y) {
    with_format(w.type, [&](auto format) {
        using Block = decltype(format);
        const size_t bytes = row_bytes<Block>(w.k);
        const auto row = [&](int i) { return static_cast<const uint8_t*>(w.data) + static_cast<size_t>(i) * bytes; };
        int i = first;
        for (; i + tile_rows <= last; i += tile_rows) {
            dot_all<Block, tile_rows>(row(i), bytes, x, m, {y.data + i, y.stride});
        }
        for (; i < last; ++i) dot_all<Block, 1>(row(i), bytes, x, m, {y.data + i, y.stride});
    });
}

/// One row in 8 bits: the largest value of a block is ±127. `values`, `scales` and `sums` are those of the row.
FASTKV_VNNI void quantize_row(const float* x, int k, int8_t* values, float* scales, float* sums) {
    const int n_block = k / block_values, n_padded = round_up(n_block, tile_blocks);
    std::fill(scales + n_block, scales + n_padded, 0.0F);
    std::fill(sums + 2 * (n_padded - tile_blocks), sums + 2 * n_padded, 0.0F);
    for (int block = 0; block < n_block; ++block) {
        const __m512 a = _mm512_loadu_ps(x + block * block_values);
        const __m512 b = _mm512_loadu_ps(x + block * block_values + 16);
        const float largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
        const float step = largest / 127.0F;
        const __m512 inverse = _mm512_set1_ps(largest > 0 ? 127.0F / largest : 0.0F);
        const __m512i qa = _mm512_cvtps_epi32(_mm512_mul_ps(a, inverse));
        const __m512i qb = _mm512_cvtps_epi32(_mm512_mul_ps(b, inverse));
        int8_t* first = values + block / tile_blocks * tile_values + block % tile_blocks * 16;
        _mm_store_si128(reinterpret_cast<__m128i*>(first), _mm512_cvtsepi32_epi8(qa));
        _mm_store_si128(reinterpret_cast<__m128i*>(first + tile_values / 2), _mm512_cvtsepi32_epi8(qb));
        scales[block] = step;
        float* sum = sums + block / tile_blocks * 2 * tile_blocks + block % tile_blocks;
        sum[0] = step * static_cast<float>(_mm512_reduce_add_epi32(qa));
        sum[tile_blocks] = step * static_cast<float>(_mm512_reduce_add_epi32(qb));
    }
}

/// The rows x, normalised if that is wanted, in 8 bits.
QuantizedRows quantize(ConstRows x, const RmsNorm& norm, int m, int k) {
    static thread_local AlignedBuffer normalized_memory;            // [k]
    static thread_local AlignedBuffer value_memory, factor_memory;  // values; scales, then sums
    const size_t n_tile = tiles_of(k);
    const size_t n_factor = static_cast<size_t>(m) * n_tile * tile_blocks;
    auto* values = value_memory.reserve_as<int8_t>(static_cast<size_t>(m) * n_tile * tile_values);
    auto* scales = factor_memory.reserve_as<float>(3 * n_factor);
    float* sums = scales + n_factor;
    for (size_t row = 0; row < static_cast<size_t>(m); ++row) {
        const float* from = x.data + row * x.stride;
        if (norm.weight != nullptr) {
            auto* normalized = normalized_memory.reserve_as<float>(static_cast<size_t>(k));
            normalize_row(from, k, norm.weight, norm.eps, GemmType::f32, normalized, k);
            from = normalized;
        }
        const size_t tiles = row * n_tile;
        quantize_row(from, k, values + tiles * tile_values, scales + tiles * tile_blocks,
                     sums + 2 * tiles * tile_blocks);
    }
    return {values, scales, sums, k};
}

/// Rows of W that are read in step: all sums round alike however the rows are shared out.
int steps_of(const QuantizedMatrix& w) { return (w.n + tile_rows - 1) / tile_rows; }

/// A piece multiplies at least so many weights, which takes a microsecond or two: taking one takes a tenth of that.
constexpr int min_piece_products = 1 << 15;

/// gate_row() takes so many columns together; what is left over rounds otherwise.
constexpr int gate_cols = 32;

/// `together` columns, whole steps, stay in one piece.
Cut cut_of(int n_step, int k, int m, int together) {
    return {.n = n_step, .smallest = min_piece_products / (tile_rows * k * m) + 1, .multiple = together / tile_rows};
}

/// Rows [first, last) of an output.
void compute_rows(const QuantizedOutput& output, const QuantizedRows& x, int m, int first, int last) {
    multiply_rows(output.weights, x, m, first, last, output.y);
    for (size_t row = 0; output.base.data != nullptr && row < static_cast<size_t>(m); ++row) {
        const float* base = output.base.data + row * output.base.stride;
        float* y = output.y.data + row * output.y.stride;
        for (int i = first; i < last; ++i) y[i] += base[i];
    }
}

}  // namespace

void quantized_linear(std::span<const QuantizedOutput> outputs, const RmsNorm& norm, ConstRows x, int m, Team& team,
                      int together, const ColumnsDone& done) {
    const QuantizedRows rows = quantize(x, norm, m, outputs.front().weights.k);
    int n_step = 0;
    for (const QuantizedOutput& output : outputs) n_step += steps_of(output.weights);
    const Cut cut = cut_of(n_step, rows.k, m, together);
    while (const Piece piece = team.take(cut)) {
        int before = 0;  // steps of the outputs before
        for (size_t i = 0; i < outputs.size(); ++i) {
            const QuantizedMatrix& w = outputs[i].weights;
            const int first = std::max(piece.begin - before, 0) * tile_rows;
            const int last = std::min((piece.end - before) * tile_rows, w.n);
            before += steps_of(w);
            if (first >= last) continue;
            compute_rows(outputs[i], rows, m, first, last);
            if (done) done(i, first, last);
        }
    }
}

void quantized_gate(const QuantizedGate& layer, ConstRows x, Rows y, int m, Team& team) {
    static thread_local AlignedBuffer up_memory;  // [m][n_ff]
    const QuantizedRows rows = quantize(x, layer.norm, m, layer.gate.k);
    const auto n = static_cast<size_t>(layer.gate.n);
    auto* up = up_memory.reserve_as<float>(static_cast<size_t>(m) * n);
    const Cut cut = cut_of(steps_of(layer.gate), rows.k, m, gate_cols);
    while (const Piece piece = team.take(cut)) {
        const int first = piece.begin * tile_rows, last = std::min(piece.end * tile_rows, layer.gate.n);
        multiply_rows(layer.gate, rows, m, first, last, y);
        multiply_rows(layer.up, rows, m, first, last, {up, n});
        for (size_t row = 0; row < static_cast<size_t>(m); ++row) {
            float* out = y.data + row * y.stride + first;
            gate_row(out, up + row * n + first, last - first, GemmType::f32, out, last - first);
        }
    }
}

}  // namespace fastkv::kernels

#else  // other processors: quantized_available() says so, and nothing else is called

namespace fastkv::kernels {

void quantized_linear(std::span<const QuantizedOutput>, const RmsNorm&, ConstRows, int, Team&, int,
                      const ColumnsDone&) {}
void quantized_gate(const QuantizedGate&, ConstRows, Rows, int, Team&) {}

}  // namespace fastkv::kernels

#endif
