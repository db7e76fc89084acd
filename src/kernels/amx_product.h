// Products of bf16 on Intel's AMX tiles, twice as fast as oneDNN's on the small blocks that fit the first two caches.
#pragma once

#include "kernels/aligned_buffer.h"
#include "kernels/product_shape.h"

namespace fastkv::kernels::amx {

/// Whether this processor has AMX for bf16 and the operating system lets this process use it.
bool available();

/// The calling thread's tiles, configured while one of these lives there. multiply() needs one.
class Tiles {
  public:
    Tiles();
    ~Tiles();
    Tiles(const Tiles&) = delete;
    Tiles& operator=(const Tiles&) = delete;
};

/// Keeps the compiler from moving ordinary loads and stores across: it does not know what tile instructions touch.
inline void memory_barrier() { asm volatile("" ::: "memory"); }

/// Brings some more of what is read next into the second-level cache: as much in every step of k of 256 rows by 256
/// columns as such an operand has.
inline void fetch_ahead(FetchAhead& ahead) {
    constexpr int lines = 4;
    if (ahead.next >= ahead.end) return;
    for (int i = 0; i < lines; ++i, ahead.next += AlignedBuffer::cache_line) __builtin_prefetch(ahead.next, 0, 2);
}

/// Asks for rows [first, first + n) of 32 columns of C, to be written.
inline void fetch_results(const float* c, size_t c_stride, int first, int n) {
    constexpr size_t line_values = AlignedBuffer::cache_line / sizeof(float);
    const float* row = c + static_cast<size_t>(first) * c_stride;
    for (int i = 0; i < n; ++i, row += c_stride) {
        __builtin_prefetch(row, 1, 3);
        __builtin_prefetch(row + line_values, 1, 3);
    }
}

/// As the functions of product.h, for bf16. Packed operands lie tile by tile:
/// [n / 64][k / 32][64 / 16 tiles][16 pairs of k][16 columns][2]: units of 64 columns, or of any 32 values of k for 64
/// columns, may be strung together or cut off.
void pack_operand(int n, int k, OperandOrder order, const void* source, size_t row_stride, void* packed);
void multiply(const ProductShape& shape, const void* a, const void* packed_b, float* c, FetchAhead& ahead);

}  // namespace fastkv::kernels::amx
