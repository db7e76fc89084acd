// Products of bf16 panel by panel: some values of k of 64 packed columns are made fit for the multiplications once, in
// the first-level cache, and used by all rows.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/aligned_buffer.h"
#include "kernels/product_shape.h"

namespace fastkv::kernels::panels {

/// Columns of a panel, and rows that kernels multiply it by together.
constexpr int panel_cols = product_n_step;
constexpr int block_rows = 4;

/// As the function of product.h, for bf16. Packed operands lie in pairs of k: [n / 64][k / 2][64 columns][2]: units of
/// 64 columns, or of any 32 values of k for 64 columns, may be strung together or cut off.
void pack_operand(int n, int k, OperandOrder order, const void* source, size_t row_stride, void* packed);

/// How the values of k of a packed operand are cut into panels. All but the last are equally deep, so that values
/// behind those of a row that are zero (keys that a query does not see) do not change how its others are summed up.
struct Cuts {
    int k;
    int depth;
    int n;

    Cuts(int values, int panel_depth) : k(values), depth(panel_depth), n((values + panel_depth - 1) / panel_depth) {}
    int begin(int panel) const { return panel * depth; }
    int length(int panel) const { return std::min(depth, k - begin(panel)); }
    /// Where the panel of the columns from `col` on begins in the packed operand, in values: there is [length / 2]
    /// [panel_cols][2].
    size_t offset(int col, int panel) const {
        return static_cast<size_t>(col) * static_cast<size_t>(k) + static_cast<size_t>(begin(panel)) * panel_cols;
    }
    /// Its place among all of them.
    int index(int col, int panel) const { return col / panel_cols * n + panel; }
};

/// Brings the panel that comes next into the second-level cache, a little with every block of rows.
class PanelFetch {
  public:
    PanelFetch(const void* next, int depth, int n_block)
        : next_(static_cast<const std::byte*>(next)),
          left_(next ? panel_lines(depth) : 0),
          per_block_((left_ + n_block - 1) / n_block) {}

    void with_block() {
        for (int i = std::min(per_block_, left_); i > 0; --i, --left_, next_ += AlignedBuffer::cache_line) {
            __builtin_prefetch(next_, 0, 2);
        }
    }

  private:
    static int panel_lines(int depth) {
        return depth * panel_cols * static_cast<int>(sizeof(uint16_t)) / static_cast<int>(AlignedBuffer::cache_line);
    }

    const std::byte* next_;
    int left_;  ///< lines
    int per_block_;
};

/// Some values of k of the rows of a product, ready for it: [n][depth], `stride` values apart.
struct Rows {
    const uint16_t* values = nullptr;
    size_t stride = 0;
    int n = 0;
    const float* scales = nullptr;  ///< [n]
};

/// C (+)= A·B by `kernel`, one for every product, which has
///   whole_depth                                         values of k of all panels but the last
///   load_rows(rows, depth)                              some values of k of all rows
///   load_columns(panel, depth, scale)                   a panel's, with its scale if it has one
///   multiply(row, depth, accumulate, c, c_stride)       adds their products for a block of rows: C
///   [block_rows][panel_cols]
/// `ahead` is multiplied afterwards.
template <class Kernel>
void multiply(Kernel& kernel, const ProductShape& shape, const ReadyRows& a, const PackedColumns& b, float* c,
              const FetchAhead& ahead) {
    const Cuts cuts(shape.k, Kernel::whole_depth);
    const auto* rows = static_cast<const uint16_t*>(a.values);
    const auto* columns = static_cast<const uint16_t*>(b.values);
    for (int panel = 0; panel < cuts.n; ++panel) {
        const int depth = cuts.length(panel);
        kernel.load_rows({rows + cuts.begin(panel), shape.a_stride, shape.m, a.scales}, depth);
        for (int col = 0; col < shape.n; col += panel_cols) {
            kernel.load_columns(columns + cuts.offset(col, panel), depth,
                                b.scales ? b.scales + cuts.index(col, panel) : nullptr);
            const void* next = col + panel_cols < shape.n ? columns + cuts.offset(col + panel_cols, panel)
                               : panel + 1 < cuts.n       ? columns + cuts.offset(0, panel + 1)
                                                          : static_cast<const void*>(ahead.next);
            PanelFetch fetch(next, depth, shape.m / block_rows);
            for (int row = 0; row < shape.m; row += block_rows) {
                fetch.with_block();
                kernel.multiply(row, depth, shape.accumulate || panel > 0,
                                c + static_cast<size_t>(row) * shape.c_stride + col, shape.c_stride);
            }
        }
    }
}

}  // namespace fastkv::kernels::panels
