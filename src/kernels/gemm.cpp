// The linear layers: slabs of packed weights times blocks of rows, which threads take piece by piece.
#include "kernels/gemm.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/aligned_buffer.h"
#include "kernels/int8_product.h"
#include "kernels/product.h"
#include "kernels/vector_ops.h"

namespace fastkv::kernels {

namespace {

/// The last pieces of many rows are at least as large: small ones read the weights for a few products.
constexpr int max_last_rows = 64;

/// Rows of a piece are multiples of this many, which AMX's tiles multiply together.
constexpr int piece_step = 2 * product_m_step;

/// Bytes between rows about to be packed: rows a power of two apart fall on the same few cache sets, and packing is
/// four times slower.
constexpr size_t row_padding = 64;

/// What k is padded to.
int k_step(GemmType type) { return type == GemmType::int8 ? int8::rotated_values : product_k_step; }

}  // namespace

struct PackedWeights::Impl {
    GemmType type = GemmType::f32;
    int n = 0;
    int k = 0;
    bool reads_hidden = false;
    int k_padded = 0;
    int k_chunk = 0;  // all but the last chunk
    int n_chunk = 0;
    int n_slab = 0;
    size_t slab_bytes = 0;  // of a whole slab; the last may be smaller
    AlignedBuffer memory;   // [n_slab] x [n_chunk] packed operands
    int n_scale = 0;        // of a chunk of a slab: int8's columns, or what products ask for
    AlignedBuffer scales;   // [n_slab][n_chunk][n_scale]

    int slab_cols(int slab) const { return std::min(slab_rows, n - slab * slab_rows); }
    int padded_slab_cols(int slab) const { return round_up(slab_cols(slab), product_n_step); }
    size_t bytes_of(int slab) const {
        return static_cast<size_t>(padded_slab_cols(slab)) * static_cast<size_t>(k_padded) * gemm_type_size(type);
    }
    int chunk_begin(int chunk) const { return chunk * k_chunk; }
    int chunk_length(int chunk) const { return std::min(k_chunk, k_padded - chunk_begin(chunk)); }

    /// A slab's chunks lie one behind the other; no layout has padding, so offsets follow from the sizes.
    std::byte* operand(int slab, int chunk) const {
        return memory.data() + static_cast<size_t>(slab) * slab_bytes +
               static_cast<size_t>(padded_slab_cols(slab)) * static_cast<size_t>(chunk_begin(chunk)) *
                   gemm_type_size(type);
    }
    /// A slab's columns from a chunk on, which are multiplied next; nothing behind the last slab.
    FetchAhead to_fetch(int slab, int chunk = 0) const {
        if (slab >= n_slab) return {};
        return {operand(slab, chunk), operand(slab, 0) + bytes_of(slab)};
    }
    /// [n_scale]
    float* slab_scales(int slab, int chunk) const {
        return scales.as<float>() + static_cast<size_t>(slab * n_chunk + chunk) * static_cast<size_t>(n_scale);
    }
    PackedColumns columns(int slab, int chunk) const {
        return {operand(slab, chunk), n_scale > 0 ? slab_scales(slab, chunk) : nullptr};
    }
};

PackedWeights::PackedWeights(GemmType type, int n, int k, bool reads_hidden) : impl_(std::make_unique<Impl>()) {
    Impl& w = *impl_;
    w.type = type;
    w.n = n;
    w.k = k;
    w.reads_hidden = reads_hidden;
    w.k_padded = round_up(k, k_step(type));
    const int longest = product_sizes(type).linear_k;
    const int at_least = (w.k_padded + longest - 1) / longest;
    w.k_chunk = round_up((w.k_padded + at_least - 1) / at_least, k_step(type));
    if (type == GemmType::int8 && reads_hidden) w.k_chunk = slab_rows;
    w.n_chunk = (w.k_padded + w.k_chunk - 1) / w.k_chunk;
    w.n_slab = (n + slab_rows - 1) / slab_rows;
    w.slab_bytes = static_cast<size_t>(slab_rows) * static_cast<size_t>(w.k_padded) * gemm_type_size(type);
    const int last = w.n_slab - 1;
    w.memory.reserve(static_cast<size_t>(last) * w.slab_bytes + w.bytes_of(last));
    w.n_scale = type == GemmType::int8 ? slab_rows : column_scales(type, slab_rows, w.k_chunk);
    w.scales.reserve_as<float>(static_cast<size_t>(w.n_slab * w.n_chunk) * static_cast<size_t>(w.n_scale));
    if (type == GemmType::int8) return;
    const ProductScope scope;
    packed_operand_bytes(type, w.padded_slab_cols(last), w.k_chunk);  // throws where there are no products
}

PackedWeights::~PackedWeights() = default;
PackedWeights::PackedWeights(PackedWeights&&) noexcept = default;
PackedWeights& PackedWeights::operator=(PackedWeights&&) noexcept = default;

GemmType PackedWeights::type() const { return impl_->type; }
int PackedWeights::n() const { return impl_->n; }
int PackedWeights::k() const { return impl_->k; }
bool PackedWeights::reads_hidden() const { return impl_->reads_hidden; }
int PackedWeights::n_slab() const { return impl_->n_slab; }
size_t PackedWeights::bytes() const { return impl_->memory.bytes() + impl_->scales.bytes(); }

namespace {

/// A row of a slab in the weights' type: target [k_padded]. `exact` [k_padded] is overwritten.
void round_row(const PackedWeights::Impl& w, int slab, int col, float* exact, std::byte* target) {
    if (w.type != GemmType::int8) {
        convert_row(exact, w.k_padded, 1.0F, w.type, target, w.k_padded);
        return;
    }
    static thread_local AlignedBuffer scale_memory;  // [n_chunk]
    auto* scales = scale_memory.reserve_as<float>(static_cast<size_t>(w.n_chunk));
    int8::quantize_row(exact, w.k_padded, w.k_chunk, reinterpret_cast<int8_t*>(target), scales);
    for (int chunk = 0; chunk < w.n_chunk; ++chunk) w.slab_scales(slab, chunk)[col] = scales[chunk];
}

}  // namespace

void PackedWeights::pack_slab(int slab, const ReadRow& read_row) {
    static thread_local AlignedBuffer exact_memory;  // [k_padded]
    AlignedBuffer& row_memory = thread_scratch();    // [padded_slab_cols][stride] of the weights' type
    const Impl& w = *impl_;
    const ProductScope scope;
    const size_t value = gemm_type_size(w.type);
    const size_t stride = static_cast<size_t>(w.k_padded) + row_padding / value;
    const int cols = w.slab_cols(slab), padded_cols = w.padded_slab_cols(slab);
    auto* exact = exact_memory.reserve_as<float>(static_cast<size_t>(w.k_padded));
    row_memory.reserve(static_cast<size_t>(padded_cols) * stride * value);
    for (int col = 0; col < padded_cols; ++col) {
        const int real = col < cols ? w.k : 0;
        if (real > 0) read_row(slab * slab_rows + col, exact);
        std::fill(exact + real, exact + w.k_padded, 0.0F);
        round_row(w, slab, col, exact, row_memory.data() + static_cast<size_t>(col) * stride * value);
    }
    for (int chunk = 0; chunk < w.n_chunk; ++chunk) {
        const std::byte* rows = row_memory.data() + static_cast<size_t>(w.chunk_begin(chunk)) * value;
        std::byte* packed = w.operand(slab, chunk);
        if (w.type == GemmType::int8) {
            int8::pack_operand(padded_cols, w.chunk_length(chunk), reinterpret_cast<const int8_t*>(rows), stride,
                               reinterpret_cast<int8_t*>(packed));
        } else {
            pack_operand(w.type, padded_cols, w.chunk_length(chunk), OperandOrder::transposed, rows, stride, packed);
            ready_columns(w.type, padded_cols, w.chunk_length(chunk), packed, w.slab_scales(slab, chunk));
        }
    }
}

namespace {

/// A block of rows as products read it: [padded][stride] of the weights' type.
struct RowBlock {
    std::byte* data;
    GemmType type;
    int n;        ///< rows
    int padded;   ///< to whole steps of a product; the rest is zero
    int k;        ///< values of a row
    int k_chunk;  ///< of int8: values that share a scale
    size_t stride;
    float* scales = nullptr;  ///< [padded][n_scale], of int8 or where products ask for any
    size_t n_scale = 1;
    float* beside = nullptr;  ///< room for other numbers

    /// Rows that are multiplied by `w`.
    RowBlock(AlignedBuffer& memory, const PackedWeights::Impl& w, int rows, size_t n_beside = 0)
        : type(w.type),
          n(rows),
          padded(round_up(rows, product_sizes(type).m_step)),
          k(w.k),
          k_chunk(w.k_chunk),
          stride(static_cast<size_t>(w.k_padded + product_sizes(type).row_gap)),
          n_scale(type == GemmType::int8 ? static_cast<size_t>(w.n_chunk) : 1) {
        // both whole cache lines
        const size_t bytes = static_cast<size_t>(padded) * stride * gemm_type_size(type);
        const size_t all_scales = static_cast<size_t>(round_up(padded, 16)) * n_scale;
        memory.reserve(bytes + (all_scales + n_beside) * sizeof(float));
        data = memory.data();
        scales = reinterpret_cast<float*>(data + bytes);
        beside = scales + all_scales;
        std::memset(row(n), 0, static_cast<size_t>(padded - n) * stride * gemm_type_size(type));
        std::fill(scales, beside, 0.0F);
    }
    /// Up to `count` of its rows; `first` is a whole step of a product.
    RowBlock strip(int first, int count) const {
        RowBlock part = *this;
        part.data = row(first);
        part.scales = row_scales(first);
        part.n = std::min(count, n - first);
        part.padded = round_up(part.n, product_sizes(type).m_step);
        return part;
    }
    std::byte* row(int i) const { return data + static_cast<size_t>(i) * stride * gemm_type_size(type); }
    float* row_scales(int i) const { return scales + static_cast<size_t>(i) * n_scale; }
    const std::byte* at(int column) const { return data + static_cast<size_t>(column) * gemm_type_size(type); }

    /// Rows [first, first + n) of x, normalised and rounded.
    void load(ConstRows x, int first, const RmsNorm& norm) const {
        static thread_local AlignedBuffer exact_memory;  // [k_padded]
        const bool rounds = type == GemmType::int8;
        const int k_padded = round_up(k, k_step(type));
        float* exact = rounds ? exact_memory.reserve_as<float>(static_cast<size_t>(k_padded)) : nullptr;
        const GemmType converted = rounds ? GemmType::f32 : type;
        for (int i = 0; i < n; ++i) {
            const float* source = x.data + static_cast<size_t>(first + i) * x.stride;
            void* target = rounds ? static_cast<void*>(exact) : row(i);
            if (norm.weight != nullptr) {
                normalize_row(source, k, norm.weight, norm.eps, converted, target, k_padded);
            } else {
                convert_row(source, k, 1.0F, converted, target, k_padded);
            }
            if (rounds) int8::quantize_row(exact, k_padded, k_chunk, reinterpret_cast<int8_t*>(row(i)), row_scales(i));
        }
        make_ready();
    }
    /// To be called once, when all of its rows are there.
    void make_ready() const {
        if (type != GemmType::int8) {
            ready_rows(type, padded, round_up(k, product_k_step), data, stride, Magnitude::any, scales);
        }
    }
};

/// Where the product of a slab goes.
struct SlabResult {
    float* c;  ///< [padded rows][padded columns of the slab]
    size_t stride;
    bool accumulate;  ///< added to it
    bool far;         ///< not in this thread's caches
};

/// The columns of one slab for a block of rows, by one chunk of k.
void multiply_chunk(const PackedWeights::Impl& w, int slab, int chunk, const RowBlock& x, const SlabResult& result,
                    FetchAhead& ahead) {
    const ProductShape shape{w.type,
                             x.padded,
                             w.padded_slab_cols(slab),
                             w.chunk_length(chunk),
                             result.accumulate || chunk > 0,
                             x.stride,
                             result.stride,
                             result.far};
    const std::byte* rows = x.at(w.chunk_begin(chunk));
    if (w.type == GemmType::int8) {
        const int8::Scales scales{x.scales + chunk, x.n_scale, w.slab_scales(slab, chunk)};
        int8::multiply(shape, scales, reinterpret_cast<const int8_t*>(rows),
                       reinterpret_cast<const int8_t*>(w.operand(slab, chunk)), result.c, ahead);
    } else {
        multiply(shape, {rows, x.scales}, w.columns(slab, chunk), result.c, ahead);
    }
}

/// The same by all of k, for one strip of a block after the other: `ahead` is multiplied after the last.
void multiply_strip(const PackedWeights::Impl& w, int slab, const RowBlock& x, const SlabResult& result,
                    FetchAhead& ahead) {
    for (int chunk = 0; chunk < w.n_chunk; ++chunk) multiply_chunk(w, slab, chunk, x, result, ahead);
}

/// The same for a whole block of rows: while a chunk is multiplied, the next is fetched and not the whole next slab,
/// which for long rows would push what else is needed out of the second-level cache.
void multiply_block(const PackedWeights::Impl& w, int slab, const RowBlock& x, const SlabResult& result,
                    FetchAhead ahead) {
    for (int chunk = 0; chunk < w.n_chunk; ++chunk) {
        FetchAhead next = chunk + 1 < w.n_chunk ? w.to_fetch(slab, chunk + 1) : ahead;
        multiply_chunk(w, slab, chunk, x, result, next);
    }
}

void copy_rows(const float* from, size_t from_stride, float* to, size_t to_stride, int rows, int cols) {
    for (int r = 0; r < rows; ++r) {
        std::memcpy(to + static_cast<size_t>(r) * to_stride, from + static_cast<size_t>(r) * from_stride,
                    static_cast<size_t>(cols) * sizeof(float));
    }
}

/// The same into rows of a matrix, which hold no padding: straight where the block is whole, else by way of memory
/// that does.
void multiply_into(const PackedWeights::Impl& w, int slab, const RowBlock& x, bool accumulate, float* y,
                   size_t y_stride, FetchAhead ahead) {
    const int cols = w.slab_cols(slab);
    const int padded_cols = w.padded_slab_cols(slab);
    if (x.padded == x.n && padded_cols == cols && product_sizes(w.type).into_rows) {
        multiply_block(w, slab, x, {y, y_stride, accumulate, true}, ahead);
        return;
    }
    static thread_local AlignedBuffer scratch;  // [padded rows][padded_cols]
    const auto stride = static_cast<size_t>(padded_cols);
    auto* c = scratch.reserve_as<float>(static_cast<size_t>(x.padded) * stride);
    if (accumulate) copy_rows(y, y_stride, c, stride, x.n, cols);
    multiply_block(w, slab, x, {c, stride, accumulate, false}, ahead);
    copy_rows(c, stride, y, y_stride, x.n, cols);
}

/// Rows cut into pieces for a team, none larger than products like.
class RowPieces {
  public:
    RowPieces(GemmType type, int m, int n_thread) {
        const int smallest = std::clamp(round_up(m / (8 * n_thread), piece_step), piece_step, max_last_rows);
        const Cut cut{m, smallest, product_sizes(type).linear_rows, piece_step};
        while (begin_.back() < m) begin_.push_back(cut.end(begin_.back(), n_thread));
    }
    int n() const { return static_cast<int>(begin_.size()) - 1; }
    int begin(int piece) const { return begin_[static_cast<size_t>(piece)]; }
    int rows(int piece) const { return begin(piece + 1) - begin(piece); }

  private:
    std::vector<int> begin_ = {0};  ///< [pieces + 1]
};

/// One slab of one output for a block of rows; `ahead` is multiplied afterwards.
void compute_slab(const LinearOutput& output, int slab, const RowBlock& x, Rows y, FetchAhead ahead) {
    const PackedWeights::Impl& w = output.weights->impl();
    const int first_col = slab * PackedWeights::slab_rows;
    float* target = y.data + first_col;
    if (output.bias) copy_rows(output.bias + first_col, 0, target, y.stride, x.n, w.slab_cols(slab));
    multiply_into(w, slab, x, output.bias != nullptr, target, y.stride, ahead);
}

/// The linear layers of the same rows.
struct Linears {
    std::span<const LinearOutput> outputs;
    std::vector<std::pair<int, int>> slabs;  ///< of all outputs: (output, slab)
    size_t row_beside = 0;                   ///< values of a row that go beside the block

    explicit Linears(std::span<const LinearOutput> all) : outputs(all) {
        for (int i = 0; i < static_cast<int>(outputs.size()); ++i) {
            const LinearOutput& output = outputs[static_cast<size_t>(i)];
            for (int slab = 0; slab < output.weights->n_slab(); ++slab) slabs.emplace_back(i, slab);
            if (!output.y.data) row_beside += static_cast<size_t>(output.weights->n());
        }
    }
    int n_slab() const { return static_cast<int>(slabs.size()); }

    /// Where the rows of a block, the first of which is `first`, go.
    std::vector<Rows> targets(const RowBlock& block, int first) const {
        std::vector<Rows> y;
        float* beside = block.beside;
        for (const LinearOutput& output : outputs) {
            const auto n = static_cast<size_t>(output.weights->n());
            if (output.y.data) {
                y.push_back({output.y.data + static_cast<size_t>(first) * output.y.stride, output.y.stride});
            } else {
                y.push_back({beside, n});
                beside += static_cast<size_t>(block.n) * n;
            }
        }
        return y;
    }

    /// Slabs [begin, end).
    void compute(int begin, int end, const RowBlock& block, std::span<const Rows> y) const {
        for (int i = begin; i < end; ++i) {
            const auto [output, slab] = slabs[static_cast<size_t>(i)];
            const auto [next_output, next_slab] = slabs[static_cast<size_t>(i + 1 < end ? i + 1 : begin)];
            const FetchAhead ahead = outputs[static_cast<size_t>(next_output)].weights->impl().to_fetch(next_slab);
            compute_slab(outputs[static_cast<size_t>(output)], slab, block, y[static_cast<size_t>(output)], ahead);
        }
    }
};

}  // namespace

void linear(std::span<const LinearOutput> outputs, const RmsNorm& norm, ConstRows x, int m, Team& team,
            const RowsDone& done) {
    const ProductScope scope;
    const PackedWeights& weights = *outputs.front().weights;
    const Linears linears(outputs);
    const RowPieces pieces(weights.type(), m, team.n_thread());
    // few rows for many threads: their slabs are shared out too, unless one thread shall see whole rows
    const int n_part = done ? 1 : std::min(linears.n_slab(), (2 * team.n_thread() + pieces.n() - 1) / pieces.n());
    for (int task = team.take(); task < pieces.n() * n_part; task = team.take()) {
        const int piece = task / n_part, part = task % n_part;
        const int first = pieces.begin(piece), rows = pieces.rows(piece);
        const RowBlock block(thread_scratch(), weights.impl(), rows, static_cast<size_t>(rows) * linears.row_beside);
        block.load(x, first, norm);
        const std::vector<Rows> y = linears.targets(block, first);
        linears.compute(linears.n_slab() * part / n_part, linears.n_slab() * (part + 1) / n_part, block, y);
        if (done) done(first, rows, y);
    }
}

void linear(const PackedWeights& w, const float* x, size_t x_stride, float* y, size_t y_stride, int m, Team& team) {
    const LinearOutput output{.weights = &w, .y = {y, y_stride}};
    linear({&output, 1}, {}, {x, x_stride}, m, team);
}

namespace {

/// silu(gate)·up of a strip of rows, [strip rows][stride] each, to columns of `hidden` from the slab's first on.
void gate_strip(const LayerEnd& layer, int slab, float* gate, const float* up, size_t stride, const RowBlock& hidden) {
    const GemmType type = hidden.type;
    const int first_col = slab * PackedWeights::slab_rows;
    const int cols = layer.gate->impl().slab_cols(slab);
    const int padded_cols = std::min(PackedWeights::slab_rows, round_up(layer.gate->n(), k_step(type)) - first_col);
    for (int i = 0; i < hidden.n; ++i, gate += stride, up += stride) {
        std::byte* target = hidden.row(i) + static_cast<size_t>(first_col) * gemm_type_size(type);
        if (type == GemmType::int8) {
            gate_row(gate, up, cols, GemmType::f32, gate, padded_cols);
            int8::quantize_row(gate, padded_cols, PackedWeights::slab_rows, reinterpret_cast<int8_t*>(target),
                               hidden.row_scales(i) + slab);
        } else {
            gate_row(gate, up, cols, type, target, padded_cols);
        }
    }
}

/// hidden = silu(gate·x)·(up·x) for rows and columns that fit the first caches together: a slab of both matrices is
/// read from memory once and used by strip after strip of rows.
void compute_hidden(const LayerEnd& layer, const RowBlock& x, const RowBlock& hidden) {
    static thread_local AlignedBuffer memory;  // gate and up: [2][strip rows][slab_rows]
    const int strip_rows = std::min(product_sizes(x.type).strip_rows, x.padded);
    const auto strip_size = static_cast<size_t>(strip_rows) * PackedWeights::slab_rows;
    auto* gate = memory.reserve_as<float>(2 * strip_size);
    float* up = gate + strip_size;
    const PackedWeights::Impl &gate_weights = layer.gate->impl(), &up_weights = layer.up->impl();
    for (int slab = 0; slab < gate_weights.n_slab; ++slab) {
        const bool last = slab + 1 == gate_weights.n_slab;
        FetchAhead after_gate = last ? layer.down->impl().to_fetch(0) : gate_weights.to_fetch(slab + 1);
        FetchAhead after_up = up_weights.to_fetch(slab + 1);
        const auto stride = static_cast<size_t>(gate_weights.padded_slab_cols(slab));
        for (int first = 0; first < x.n; first += strip_rows) {
            const RowBlock strip = x.strip(first, strip_rows);
            multiply_strip(gate_weights, slab, strip, {gate, stride, false, false}, after_gate);
            multiply_strip(up_weights, slab, strip, {up, stride, false, false}, after_up);
            gate_strip(layer, slab, gate, up, stride, hidden.strip(first, strip_rows));
        }
    }
    hidden.make_ready();
}

/// y += x·Wᵀ for a block of rows; `next` is multiplied afterwards.
void add_product(const PackedWeights& weights, const RowBlock& x, Rows y, const PackedWeights& next) {
    const int n_slab = weights.n_slab();
    for (int slab = 0; slab < n_slab; ++slab) {
        const bool last = slab + 1 == n_slab;
        const FetchAhead ahead = last ? next.impl().to_fetch(0) : weights.impl().to_fetch(slab + 1);
        multiply_into(weights.impl(), slab, x, true, y.data + slab * PackedWeights::slab_rows, y.stride, ahead);
    }
}

}  // namespace

void end_layer(const LayerEnd& layer, Rows x, int m) {
    const ProductScope scope;
    static thread_local AlignedBuffer x_memory, hidden_memory;
    const RowBlock attention(x_memory, layer.output->impl(), m);
    attention.load(layer.a, 0, {});
    add_product(*layer.output, attention, x, *layer.gate);

    const RowBlock normalized(x_memory, layer.gate->impl(), m);
    normalized.load({x.data, x.stride}, 0, layer.norm);
    const RowBlock hidden(hidden_memory, layer.down->impl(), m);
    compute_hidden(layer, normalized, hidden);
    add_product(*layer.down, hidden, x, *layer.output);
}

void end_layer(const LayerEnd& layer, Rows x, int m, Team& team) {
    const RowPieces pieces(layer.gate->type(), m, team.n_thread());
    for (int piece = team.take(); piece < pieces.n(); piece = team.take()) {
        const int first = pieces.begin(piece);
        LayerEnd own = layer;
        own.a.data += static_cast<size_t>(first) * layer.a.stride;
        end_layer(own, {x.data + static_cast<size_t>(first) * x.stride, x.stride}, pieces.rows(piece));
    }
}

}  // namespace fastkv::kernels
