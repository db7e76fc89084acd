#include "kernels/amx_product.h"

// GCC 12's own headers leave vectors uninitialised where it does not matter, and then warn of it.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#if defined(__x86_64__) && defined(__linux__) && __has_include(<amxtileintrin.h>)

#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

#include "kernels/simd.h"

#define FASTKV_AMX __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw")))

namespace fastkv::kernels::amx {

namespace {

/// A tile is 16 rows of 64 bytes: 16 x 16 float32 of C, 16 x 32 bf16 of A, 16 pairs of k x 16 columns of B.
constexpr int tile_rows = 16;
constexpr int tile_k = 32;
constexpr size_t tile_values = 512;  ///< of bf16

/// Columns of a group of packed tiles.
constexpr int group_cols = 64;
static_assert(group_cols == product_n_step && tile_rows == product_m_step && tile_k == product_k_step);

/// LDTILECFG's format: palette 1, then for each of 8 tiles the bytes of a row and the number of rows. Constant data:
/// compilers do not know that the instruction reads 64 bytes.
alignas(64) const uint8_t tile_config[64] = {1,  0,  0,  0,  0,  0,  0,  0,  0,  0, 0,  0, 0,  0, 0,  0,  //
                                             64, 0,  64, 0,  64, 0,  64, 0,  64, 0, 64, 0, 64, 0, 64, 0,  //
                                             0,  0,  0,  0,  0,  0,  0,  0,  0,  0, 0,  0, 0,  0, 0,  0,  //
                                             16, 16, 16, 16, 16, 16, 16, 16, 0,  0, 0,  0, 0,  0, 0,  0};

/// What CPUID says of AMX's tiles and their products of bf16.
bool has_amx_bf16() {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
    constexpr unsigned amx_bf16 = 1U << 22, amx_tile = 1U << 24;
    return (edx & amx_bf16) != 0 && (edx & amx_tile) != 0;
}

/// Linux hands out the tiles' registers on request.
bool request_tiles() {
    constexpr int arch_req_xcomp_perm = 0x1023;
    constexpr int xfeature_xtiledata = 18;
    return syscall(SYS_arch_prctl, arch_req_xcomp_perm, xfeature_xtiledata) == 0;
}

}  // namespace

bool available() {
    static const bool yes = max_isa() == Isa::amx && has_amx_bf16() && request_tiles();
    return yes;
}

namespace {

FASTKV_AMX void configure_tiles() { _tile_loadconfig(tile_config); }
FASTKV_AMX void release_tiles() { _tile_release(); }

}  // namespace

Tiles::Tiles() { configure_tiles(); }
Tiles::~Tiles() { release_tiles(); }

namespace {

/// 16 rows of 16 words, turned: target[i][j] = source[j][i].
FASTKV_AMX void transpose_words(const uint16_t* source, size_t row_stride, uint16_t* target) {
    __m512i a[16];
    __m512i b[16];
    for (int i = 0; i < 16; ++i) a[i] = _mm512_loadu_si512(source + static_cast<size_t>(i) * row_stride);
    for (int i = 0; i < 16; i += 2) {  // pairs of rows
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {  // fours
        a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
        a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
        a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
        a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
    }
    for (int i = 0; i < 4; ++i) {  // eights, by 128-bit blocks
        b[i] = _mm512_shuffle_i32x4(a[i], a[i + 4], 0x88);
        b[i + 4] = _mm512_shuffle_i32x4(a[i], a[i + 4], 0xDD);
        b[i + 8] = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0x88);
        b[i + 12] = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0xDD);
    }
    for (int i = 0; i < 4; ++i) {
        _mm512_store_si512(target + 32 * i, _mm512_shuffle_i32x4(b[i], b[i + 8], 0x88));
        _mm512_store_si512(target + 32 * (i + 4), _mm512_shuffle_i32x4(b[i + 4], b[i + 12], 0x88));
        _mm512_store_si512(target + 32 * (i + 8), _mm512_shuffle_i32x4(b[i], b[i + 8], 0xDD));
        _mm512_store_si512(target + 32 * (i + 12), _mm512_shuffle_i32x4(b[i + 4], b[i + 12], 0xDD));
    }
}

/// 32 rows of 16 values: each pair of rows side by side, value by value.
FASTKV_AMX void pair_rows(const uint16_t* source, size_t row_stride, uint16_t* target) {
    for (size_t pair = 0; pair < 16; ++pair) {
        const uint16_t* row = source + 2 * pair * row_stride;
        const __m512i even = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row)));
        const __m512i odd =
            _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + row_stride)));
        _mm512_store_si512(target + 32 * pair, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
    }
}

}  // namespace

void pack_operand(int n, int k, OperandOrder order, const void* source, size_t row_stride, void* packed) {
    const auto* values = static_cast<const uint16_t*>(source);
    auto* target = static_cast<uint16_t*>(packed);
    for (int group = 0; group < n; group += group_cols) {
        for (int depth = 0; depth < k; depth += tile_k) {
            for (int col = group; col < group + group_cols; col += tile_rows, target += tile_values) {
                if (order == OperandOrder::transposed) {
                    transpose_words(values + static_cast<size_t>(col) * row_stride + depth, row_stride, target);
                } else {
                    pair_rows(values + static_cast<size_t>(depth) * row_stride + col, row_stride, target);
                }
            }
        }
    }
}

namespace {

/// A block of C, 32 columns of 32 rows or 16, and the one that follows it.
struct Block {
    const uint16_t* a;
    const uint16_t* b;
    float* c;
    const float* next_c;
};

/// The four products of a step of k use two tiles of A, below each other, and two of B, so that loads take half of the
/// time of the products. A stays in the first-level cache while it meets column after column. B passes by: its tiles
/// are loaded as such (TILELOADDT1) and push nothing out.
template <bool two_rows>
FASTKV_AMX void multiply_block(const ProductShape& shape, const Block& block, FetchAhead& ahead) {
    const size_t a_stride = shape.a_stride * sizeof(uint16_t);
    const size_t c_stride = shape.c_stride * sizeof(float);
    const uint16_t* a = block.a;
    const uint16_t* a_lower = a + tile_rows * shape.a_stride;
    const uint16_t* b = block.b;
    float* c = block.c;
    float* c_lower = c + tile_rows * shape.c_stride;
    if (shape.accumulate) {
        _tile_loadd(0, c, c_stride);
        _tile_loadd(1, c + tile_rows, c_stride);
        if constexpr (two_rows) {
            _tile_loadd(2, c_lower, c_stride);
            _tile_loadd(3, c_lower + tile_rows, c_stride);
        }
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int depth = 0; depth < shape.k; depth += tile_k, b += 4 * tile_values) {
        fetch_ahead(ahead);
        if (shape.fetches_c && depth < tile_rows * tile_k) {  // two rows in each of the first 16 steps
            fetch_results(block.next_c, shape.c_stride, 2 * depth / tile_k, 2);
        }
        _tile_loadd(4, a + depth, a_stride);
        _tile_stream_loadd(6, b, 64);
        if constexpr (two_rows) _tile_loadd(5, a_lower + depth, a_stride);
        _tile_stream_loadd(7, b + tile_values, 64);
        _tile_dpbf16ps(0, 4, 6);
        if constexpr (two_rows) _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(1, 4, 7);
        if constexpr (two_rows) _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, c_stride);
    _tile_stored(1, c + tile_rows, c_stride);
    if constexpr (two_rows) {
        _tile_stored(2, c_lower, c_stride);
        _tile_stored(3, c_lower + tile_rows, c_stride);
    }
}

}  // namespace

void multiply(const ProductShape& shape, const void* a, const void* packed_b, float* c, FetchAhead& ahead) {
    constexpr int block_size = 2 * tile_rows;
    memory_barrier();
    for (int row = 0; row < shape.m; row += block_size) {
        const uint16_t* a_row = static_cast<const uint16_t*>(a) + static_cast<size_t>(row) * shape.a_stride;
        float* c_row = c + static_cast<size_t>(row) * shape.c_stride;
        for (int col = 0; col < shape.n; col += block_size) {
            const int group = col / group_cols * group_cols;
            const uint16_t* b = static_cast<const uint16_t*>(packed_b) +
                                static_cast<size_t>(group) * static_cast<size_t>(shape.k) +
                                static_cast<size_t>((col - group) / tile_rows) * tile_values;
            const bool last = col + block_size == shape.n;
            const Block block{a_row, b, c_row + col,
                              last ? c_row + block_size * shape.c_stride : c_row + col + block_size};
            if (row + tile_rows < shape.m) {
                multiply_block<true>(shape, block, ahead);
            } else {
                multiply_block<false>(shape, block, ahead);
            }
        }
    }
    memory_barrier();
}

}  // namespace fastkv::kernels::amx

#else  // another processor or system: available() says so, and nothing else is called

namespace fastkv::kernels::amx {

bool available() { return false; }
Tiles::Tiles() = default;
Tiles::~Tiles() = default;
void pack_operand(int, int, OperandOrder, const void*, size_t, void*) {}
void multiply(const ProductShape&, const void*, const void*, float*, FetchAhead&) {}

}  // namespace fastkv::kernels::amx

#endif
