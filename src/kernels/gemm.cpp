// The linear layers: slabs of packed weights times blocks of rows, shared out over threads that never wait.
#include "kernels/gemm.h"

#include <algorithm>
#include <cstring>

#include "kernels/aligned_buffer.h"
#include "kernels/product.h"
#include "kernels/vector_ops.h"

namespace fastkv::kernels {

namespace {

/// Rows of x per product. Measured: from 64 rows on the products run at full speed, and at 128 the rows, their
/// results and the weights of one product still lie in a second-level cache together.
constexpr int max_block_rows = 128;
constexpr int min_block_rows = 32;

/// Values of k per product, for the same reason; longer rows are summed up product by product.
constexpr int max_k_chunk(GemmType type) { return type == GemmType::bf16 ? 1024 : 512; }

/// Added to the stride of rows about to be packed: rows a power of two apart fall on the same few cache sets, and
/// packing is four times slower.
constexpr int stride_padding = 32;

}  // namespace

struct PackedWeights::Impl {
    GemmType type = GemmType::f32;
    int n = 0;
    int k = 0;
    int k_padded = 0;
    int k_chunk = 0;  // all but the last chunk
    int n_chunk = 0;
    int n_slab = 0;
    size_t slab_bytes = 0;  // of a whole slab; the last may be smaller
    AlignedBuffer memory;   // [n_slab] x [n_chunk] packed operands

    int slab_cols(int slab) const { return std::min(slab_rows, n - slab * slab_rows); }
    int padded_slab_cols(int slab) const { return round_up(slab_cols(slab), product_n_step); }
    int chunk_begin(int chunk) const { return chunk * k_chunk; }
    int chunk_length(int chunk) const { return std::min(k_chunk, k_padded - chunk_begin(chunk)); }

    /// A slab's chunks lie one behind the other; no layout has padding, so offsets follow from the sizes.
    std::byte* operand(int slab, int chunk) const {
        return memory.data() + static_cast<size_t>(slab) * slab_bytes +
               static_cast<size_t>(padded_slab_cols(slab)) * static_cast<size_t>(chunk_begin(chunk)) *
                   gemm_type_size(type);
    }
};

PackedWeights::PackedWeights(GemmType type, int n, int k) : impl_(std::make_unique<Impl>()) {
    Impl& w = *impl_;
    w.type = type;
    w.n = n;
    w.k = k;
    w.k_padded = round_up(k, product_k_step);
    const int at_least = (w.k_padded + max_k_chunk(type) - 1) / max_k_chunk(type);
    w.k_chunk = round_up((w.k_padded + at_least - 1) / at_least, product_k_step);
    w.n_chunk = (w.k_padded + w.k_chunk - 1) / w.k_chunk;
    w.n_slab = (n + slab_rows - 1) / slab_rows;
    w.slab_bytes = static_cast<size_t>(slab_rows) * static_cast<size_t>(w.k_padded) * gemm_type_size(type);
    const int last = w.n_slab - 1;
    const size_t last_bytes =
        static_cast<size_t>(w.padded_slab_cols(last)) * static_cast<size_t>(w.k_padded) * gemm_type_size(type);
    w.memory.reserve(static_cast<size_t>(last) * w.slab_bytes + last_bytes);
    const SingleThread single;
    packed_operand_bytes(type, w.padded_slab_cols(last), w.k_chunk);  // throws where there are no products
}

PackedWeights::~PackedWeights() = default;
PackedWeights::PackedWeights(PackedWeights&&) noexcept = default;
PackedWeights& PackedWeights::operator=(PackedWeights&&) noexcept = default;

GemmType PackedWeights::type() const { return impl_->type; }
int PackedWeights::n() const { return impl_->n; }
int PackedWeights::k() const { return impl_->k; }
int PackedWeights::n_slab() const { return impl_->n_slab; }
size_t PackedWeights::bytes() const { return impl_->memory.bytes(); }

void PackedWeights::pack_slab(int slab, const float* rows) {
    const Impl& w = *impl_;
    const SingleThread single;
    static thread_local AlignedBuffer scratch;  // [padded_slab_cols][k_chunk + stride_padding] of the weights' type
    const size_t value = gemm_type_size(w.type);
    const size_t stride = static_cast<size_t>(w.k_chunk + stride_padding);
    const int cols = w.slab_cols(slab);
    const int padded_cols = w.padded_slab_cols(slab);
    scratch.reserve(static_cast<size_t>(padded_cols) * stride * value);
    for (int chunk = 0; chunk < w.n_chunk; ++chunk) {
        const int begin = w.chunk_begin(chunk);
        const int length = w.chunk_length(chunk);
        const int real = std::min(length, w.k - begin);
        for (int col = 0; col < cols; ++col) {
            const float* row = rows + static_cast<size_t>(col) * static_cast<size_t>(w.k) + begin;
            convert_row(row, real, 1.0F, w.type, scratch.data() + static_cast<size_t>(col) * stride * value, length);
        }
        std::memset(scratch.data() + static_cast<size_t>(cols) * stride * value, 0,
                    static_cast<size_t>(padded_cols - cols) * stride * value);
        pack_operand(w.type, padded_cols, length, OperandOrder::transposed, scratch.data(), stride,
                     w.operand(slab, chunk));
    }
}

namespace {

/// Rows per block such that every thread gets at least two tasks, if the rows allow it.
int choose_block_rows(int m, int n_slab, int nth) {
    int rows = max_block_rows;
    while (rows > min_block_rows && (m + rows - 1) / rows * n_slab < 2 * nth) {
        rows /= 2;
    }
    return rows;
}

void copy_rows(const float* from, int from_stride, float* to, size_t to_stride, int rows, int cols) {
    for (int r = 0; r < rows; ++r) {
        std::memcpy(to + static_cast<size_t>(r) * to_stride,
                    from + static_cast<size_t>(r) * static_cast<size_t>(from_stride),
                    static_cast<size_t>(cols) * sizeof(float));
    }
}

}  // namespace

void linear(const PackedWeights& weights, const float* x, size_t x_stride, float* y, size_t y_stride, int m, int ith,
            int nth) {
    const PackedWeights::Impl& w = *weights.impl_;
    const SingleThread single;
    static thread_local AlignedBuffer x_scratch;  // [n_chunk] x [rows][k_chunk] of the weights' type
    static thread_local AlignedBuffer y_scratch;  // [rows][slab_rows]
    const size_t value = gemm_type_size(w.type);
    const int block_rows = choose_block_rows(m, w.n_slab, nth);
    const int n_block = (m + block_rows - 1) / block_rows;
    x_scratch.reserve(static_cast<size_t>(block_rows) * static_cast<size_t>(w.k_padded) * value);
    y_scratch.reserve(static_cast<size_t>(block_rows) * PackedWeights::slab_rows * sizeof(float));

    // A thread's tasks are those whose middle, counted in results, falls into its share.
    const int64_t total = static_cast<int64_t>(m) * w.n;
    const int64_t share_begin = total * ith / nth;
    const int64_t share_end = total * (ith + 1) / nth;
    int converted = -1;
    for (int block = 0; block < n_block; ++block) {
        const int first = block * block_rows;
        const int rows = std::min(block_rows, m - first);
        const int padded_rows = round_up(rows, product_m_step);
        const auto chunk_of_x = [&](int chunk) {
            return x_scratch.data() +
                   static_cast<size_t>(padded_rows) * static_cast<size_t>(w.chunk_begin(chunk)) * value;
        };
        for (int slab = 0; slab < w.n_slab; ++slab) {
            const int64_t middle =
                static_cast<int64_t>(first) * w.n +
                (static_cast<int64_t>(slab) * PackedWeights::slab_rows + w.slab_cols(slab) / 2) * rows;
            if (middle < share_begin || middle >= share_end) {
                continue;
            }
            for (int chunk = 0; converted != block && chunk < w.n_chunk; ++chunk) {
                const int begin = w.chunk_begin(chunk);
                const int length = w.chunk_length(chunk);
                const size_t row_bytes = static_cast<size_t>(length) * value;
                for (int r = 0; r < rows; ++r) {
                    convert_row(x + static_cast<size_t>(first + r) * x_stride + begin, std::min(length, w.k - begin),
                                1.0F, w.type, chunk_of_x(chunk) + static_cast<size_t>(r) * row_bytes, length);
                }
                std::memset(chunk_of_x(chunk) + static_cast<size_t>(rows) * row_bytes, 0,
                            static_cast<size_t>(padded_rows - rows) * row_bytes);
            }
            converted = block;
            const int padded_cols = w.padded_slab_cols(slab);
            for (int chunk = 0; chunk < w.n_chunk; ++chunk) {
                const ProductShape shape{w.type, padded_rows, padded_cols, w.chunk_length(chunk), chunk > 0};
                multiply(shape, chunk_of_x(chunk), w.operand(slab, chunk), y_scratch.as<float>());
            }
            copy_rows(y_scratch.as<float>(), padded_cols,
                      y + static_cast<size_t>(first) * y_stride + static_cast<size_t>(slab) * PackedWeights::slab_rows,
                      y_stride, rows, w.slab_cols(slab));
        }
    }
}

}  // namespace fastkv::kernels
