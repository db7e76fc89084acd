// Blockwise attention: scores of a run of keys by one product, one step of an online softmax, and one product with
// the values, added to what the earlier runs gave.
#include "kernels/prefill_attention.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <mutex>
#include <utility>

#include "kernels/aligned_buffer.h"
#include "kernels/product.h"
#include "kernels/score_block.h"
#include "kernels/vector_ops.h"

namespace fastkv::kernels {

namespace {

/// Keys and values are packed in units of this many keys; a product takes whole runs of units (ProductSizes). Small
/// units waste little at the causal edge, long runs keep the products at full speed.
constexpr int unit_keys = 64;
/// Unit where packed units cannot be strung together to runs.
constexpr int lone_unit_keys = 256;

/// Values are multiplied in column groups of this width: within it, packed units of keys follow one another.
constexpr int value_cols = 64;

/// Queries of a block at most: later ones would keep earlier ones waiting for keys that they do not see.
constexpr int max_block_queries = 128;

/// Rows of a strip over a block's last run of keys: of more, the first would be multiplied by more keys that only the
/// last ones see.
constexpr int max_edge_rows = 192;

/// Rows about to be packed lie this much further apart than they are long (see gemm.cpp).
constexpr int stride_padding = 32;

/// Whether operands packed in units of `unit_keys` keys, one behind the other, are what packing a whole run gives.
/// That is a property of oneDNN's layouts, which differ between processors and versions: so it is tried out.
bool try_units_concatenate(GemmType type, int n, int k, OperandOrder order) {
    const bool keys_are_cols = order == OperandOrder::transposed;
    const int run_keys = product_sizes(type).run_keys;
    const int n_unit = run_keys / unit_keys;
    const int run_n = keys_are_cols ? run_keys : n;
    const int run_k = keys_are_cols ? k : run_keys;
    const int row_length = keys_are_cols ? k : n;  // of a source row, one key
    const size_t row_bytes = static_cast<size_t>(row_length) * gemm_type_size(type);
    const AlignedBuffer source(row_bytes * static_cast<size_t>(run_keys));
    for (size_t i = 0; i < source.bytes() / sizeof(uint16_t); ++i) {
        source.as<uint16_t>()[i] = static_cast<uint16_t>((i * 40503U) & 0x3FFFU);  // finite in either type
    }
    const size_t run_bytes = packed_operand_bytes(type, run_n, run_k);
    const AlignedBuffer run(run_bytes);
    const AlignedBuffer units(run_bytes);
    pack_operand(type, run_n, run_k, order, source.data(), static_cast<size_t>(row_length), run.data());
    for (size_t u = 0; u < static_cast<size_t>(n_unit); ++u) {
        pack_operand(type, keys_are_cols ? unit_keys : n, keys_are_cols ? k : unit_keys, order,
                     source.data() + u * unit_keys * row_bytes, static_cast<size_t>(row_length),
                     units.data() + u * (run_bytes / static_cast<size_t>(n_unit)));
    }
    return std::memcmp(run.data(), units.data(), run_bytes) == 0;
}

bool units_concatenate(GemmType type, int key_length) {
    static std::mutex mutex;
    static std::map<std::pair<GemmType, int>, bool> known;
    const std::lock_guard<std::mutex> lock(mutex);
    const auto found = known.find({type, key_length});
    if (found != known.end()) {
        return found->second;
    }
    const ProductScope scope;
    const int run_keys = product_sizes(type).run_keys;
    const bool yes = try_units_concatenate(type, run_keys, key_length, OperandOrder::transposed) &&
                     try_units_concatenate(type, value_cols, run_keys, OperandOrder::straight);
    known[{type, key_length}] = yes;
    return yes;
}

/// Where the packed units of every head begin.
struct Units {
    std::byte* data = nullptr;
    size_t head_stride = 0;  ///< bytes

    std::byte* of_head(int head) const { return data + static_cast<size_t>(head) * head_stride; }
};

/// Whether every head has room for so many rows, one behind the other, and begins on a cache line, as packed operands
/// do.
bool has_room(const KvView& rows, int head_dim, int n_rows) {
    return rows.row_stride == kv_row_size(rows.type, head_dim) &&
           rows.head_stride >= static_cast<size_t>(n_rows) * rows.row_stride &&
           reinterpret_cast<uintptr_t>(rows.data) % AlignedBuffer::cache_line == 0 &&
           rows.head_stride % AlignedBuffer::cache_line == 0;
}

Units units_over(const KvView& rows) {
    return {static_cast<std::byte*>(const_cast<void*>(rows.data)), rows.head_stride};
}

/// The same in memory of one's own, which is taken if need be.
Units units_in(AlignedBuffer& memory, int n_head, size_t head_bytes) {
    memory.reserve(static_cast<size_t>(n_head) * head_bytes);
    return {memory.data(), head_bytes};
}

}  // namespace

struct PackedKv::Impl {
    GemmType type = GemmType::f32;
    int head_dim = 0;
    int key_length = 0;  ///< head_dim padded for the product with the queries
    int n_group = 0;     ///< groups of value columns
    int n_head_kv = 0;
    int unit = 0;        ///< keys per packed unit
    int run_units = 0;   ///< units that one product may take
    int step_units = 0;  ///< runs begin at multiples of so many
    int max_units = 0;   ///< per head
    size_t k_unit_bytes = 0;
    size_t v_unit_bytes = 0;
    int n_key_scale = 0;                     ///< of a unit, 0 where products take none
    int n_value_scale = 0;                   ///< of a head's group of columns: one for every step_units units
    AlignedBuffer key_memory, value_memory;  ///< of its own
    AlignedBuffer key_scales;                ///< [n_head_kv][max_units][n_key_scale]
    AlignedBuffer value_scales;              ///< [n_head_kv][n_group][n_value_scale]

    KvView k, v;  ///< rows to be packed
    int n_rows = 0;
    Units keys;    ///< [n_head_kv][units] packed operands [key_length][unit]
    Units values;  ///< [n_head_kv][n_group][units] packed operands [unit][value_cols]

    size_t key_bytes() const { return static_cast<size_t>(max_units) * k_unit_bytes; }  ///< of a head
    size_t value_bytes() const { return static_cast<size_t>(n_group * max_units) * v_unit_bytes; }

    /// Whether as many rows of this type take the bytes of a unit of keys, or of values, whose columns must lie in one
    /// piece for that.
    bool keys_fit_over(KvType rows) const { return k_unit_bytes == unit_row_bytes(rows); }
    bool values_fit_over(KvType rows) const { return n_group == 1 && v_unit_bytes == unit_row_bytes(rows); }
    size_t unit_row_bytes(KvType rows) const { return static_cast<size_t>(unit) * kv_row_size(rows, head_dim); }

    std::byte* key_unit(int head, int u) const { return keys.of_head(head) + static_cast<size_t>(u) * k_unit_bytes; }
    std::byte* value_unit(int head, int group, int u) const {
        return values.of_head(head) + static_cast<size_t>(group * max_units + u) * v_unit_bytes;
    }
    /// Of the run that begins with unit u; none where products take none.
    float* scales_of_keys(int head, int u) const {
        if (n_key_scale == 0) return nullptr;
        return key_scales.as<float>() + static_cast<size_t>((head * max_units + u) * n_key_scale);
    }
    float* scales_of_values(int head, int group, int u) const {
        if (n_value_scale == 0) return nullptr;
        return value_scales.as<float>() +
               static_cast<size_t>((head * n_group + group) * n_value_scale + u / step_units);
    }
};

PackedKv::PackedKv(GemmType type, int head_dim, int n_head_kv, int max_rows) : impl_(std::make_unique<Impl>()) {
    Impl& kv = *impl_;
    const ProductScope scope;
    kv.type = type;
    kv.head_dim = head_dim;
    kv.key_length = round_up(head_dim, product_k_step);
    kv.n_group = (head_dim + value_cols - 1) / value_cols;
    kv.n_head_kv = n_head_kv;
    const bool runs = units_concatenate(type, kv.key_length);
    kv.unit = runs ? unit_keys : lone_unit_keys;
    kv.run_units = runs ? product_sizes(type).run_keys / unit_keys : 1;
    kv.step_units = std::max(1, product_sizes(type).scale_keys / kv.unit);
    kv.max_units = (max_rows + kv.unit - 1) / kv.unit;
    kv.k_unit_bytes = packed_operand_bytes(type, kv.unit, kv.key_length);
    kv.v_unit_bytes = packed_operand_bytes(type, value_cols, kv.unit);
    kv.n_key_scale = column_scales(type, kv.unit, kv.key_length);
    kv.n_value_scale = column_scales(type, value_cols, kv.max_units * kv.unit);
    kv.key_scales.reserve_as<float>(static_cast<size_t>(n_head_kv * kv.max_units * kv.n_key_scale));
    kv.value_scales.reserve_as<float>(static_cast<size_t>(n_head_kv * kv.n_group * kv.n_value_scale));
}

PackedKv::~PackedKv() = default;
PackedKv::PackedKv(PackedKv&&) noexcept = default;
PackedKv& PackedKv::operator=(PackedKv&&) noexcept = default;

size_t PackedKv::bytes() const { return impl_->key_memory.bytes() + impl_->value_memory.bytes(); }

size_t PackedKv::bytes_beside(KvType rows) const {
    const Impl& kv = *impl_;
    const size_t keys = kv.keys_fit_over(rows) ? 0 : kv.key_bytes();
    const size_t values = kv.values_fit_over(rows) ? 0 : kv.value_bytes();
    return static_cast<size_t>(kv.n_head_kv) * (keys + values);
}

int PackedKv::room_for(int n_rows) { return round_up(n_rows, lone_unit_keys); }

void PackedKv::set_rows(const KvView& k, const KvView& v, int n_rows, bool over) {
    Impl& kv = *impl_;
    kv.k = k;
    kv.v = v;
    kv.n_rows = n_rows;
    const int room = round_up(n_rows, kv.unit);
    const bool keys_over = over && kv.keys_fit_over(k.type) && has_room(k, kv.head_dim, room);
    const bool values_over = over && kv.values_fit_over(v.type) && has_room(v, kv.head_dim, room);
    kv.keys = keys_over ? units_over(k) : units_in(kv.key_memory, kv.n_head_kv, kv.key_bytes());
    kv.values = values_over ? units_over(v) : units_in(kv.value_memory, kv.n_head_kv, kv.value_bytes());
}

namespace {

/// Converts keys [first, first + n_key) of `head` into rows `stride` values apart, zero up to `row_length` and for
/// the keys beyond n_rows: what is multiplied by probability 0 must not be a NaN left in memory.
void convert_keys(const KvView& view, int head, int first, int n_key, int n_rows, int head_dim, GemmType type,
                  std::byte* target, int row_length, size_t stride) {
    const auto* source = static_cast<const std::byte*>(view.data) + static_cast<size_t>(head) * view.head_stride;
    const size_t stride_bytes = stride * gemm_type_size(type);
    for (int i = 0; i < n_key; ++i) {
        std::byte* row = target + static_cast<size_t>(i) * stride_bytes;
        if (first + i < n_rows) {
            convert_kv_row(source + static_cast<size_t>(first + i) * view.row_stride, view.type, head_dim, type, row,
                           row_length);
        } else {
            std::memset(row, 0, static_cast<size_t>(row_length) * gemm_type_size(type));
        }
    }
}

}  // namespace

// A run of rows is read before the first of its units is written, which may lie over them.
void PackedKv::pack(Team& team) const {
    const Impl& kv = *impl_;
    const ProductScope scope;
    AlignedBuffer& scratch = thread_scratch();  // [run of keys][padded row] of the products' type
    const int value_length = kv.n_group * value_cols;
    const auto key_stride = static_cast<size_t>(kv.key_length + stride_padding);
    const auto value_stride = static_cast<size_t>(value_length + stride_padding);
    const int n_unit = (kv.n_rows + kv.unit - 1) / kv.unit;
    const int n_run = (n_unit + kv.run_units - 1) / kv.run_units;
    scratch.reserve(static_cast<size_t>(kv.run_units * kv.unit) * std::max(key_stride, value_stride) *
                    gemm_type_size(kv.type));
    for (int task = team.take(); task < kv.n_head_kv * n_run; task = team.take()) {
        const int head = task / n_run;
        const int u = task % n_run * kv.run_units;
        const int n_key = std::min(kv.run_units, n_unit - u) * kv.unit;
        convert_keys(kv.k, head, u * kv.unit, n_key, kv.n_rows, kv.head_dim, kv.type, scratch.data(), kv.key_length,
                     key_stride);
        pack_operand(kv.type, n_key, kv.key_length, OperandOrder::transposed, scratch.data(), key_stride,
                     kv.key_unit(head, u));
        ready_columns(kv.type, n_key, kv.key_length, kv.key_unit(head, u), kv.scales_of_keys(head, u));
        convert_keys(kv.v, head, u * kv.unit, n_key, kv.n_rows, kv.head_dim, kv.type, scratch.data(), value_length,
                     value_stride);
        for (int group = 0; group < kv.n_group; ++group) {
            const size_t offset = static_cast<size_t>(group * value_cols) * gemm_type_size(kv.type);
            std::byte* packed = kv.value_unit(head, group, u);
            pack_operand(kv.type, value_cols, n_key, OperandOrder::straight, scratch.data() + offset, value_stride,
                         packed);
            ready_columns(kv.type, value_cols, n_key, packed, kv.scales_of_values(head, group, u));
        }
    }
}

namespace {

/// A block of queries under one key/value head: G = n_head / n_head_kv rows for each query, side by side.
struct Block {
    int head_kv = 0;
    int first_query = 0;
    int n_query = 0;
};

/// What one thread needs for a block of queries.
struct Scratch {
    AlignedBuffer queries;     ///< [rows][key_length] of the products' type
    AlignedBuffer scores;      ///< [strip_rows][keys of a run]: see ScoreBlock
    AlignedBuffer outputs;     ///< [n_group][rows][value_cols]
    AlignedBuffer statistics;  ///< max, sum, decay, scales of queries and of probabilities: [5][rows]
};

Scratch& thread_scratch() {
    static thread_local Scratch scratch;
    return scratch;
}

/// First key that the sliding window leaves to a query.
int first_visible(const PrefillQueries& queries, int query) {
    if (queries.sliding_window == 0) {
        return 0;
    }
    const int32_t* own = queries.key_position + queries.key_row[query];
    const int32_t* first = std::upper_bound(queries.key_position, own, *own - queries.sliding_window);
    return static_cast<int>(first - queries.key_position);
}

/// Some rows of a block over some units of keys.
struct Strip {
    int first_row = 0;
    int n_row = 0;  ///< a multiple of product_m_step: the block's last strip may run past its queries
    int first_key = 0;
    int n_key = 0;
    bool sees_all = false;  ///< every row sees every key, as in most strips
};

/// Hides keys that a query must not look at.
void hide_keys(const PrefillQueries& queries, const Block& block, int group_size, const Strip& strip,
               ScoreBlock& scores) {
    const int end_row = std::min(strip.first_row + strip.n_row, block.n_query * group_size);
    for (int r = strip.first_row; r < end_row; ++r) {
        const int query = block.first_query + r / group_size;
        const int begin = std::clamp(first_visible(queries, query) - strip.first_key, 0, strip.n_key);
        const int end = std::clamp(queries.key_row[query] + 1 - strip.first_key, begin, strip.n_key);
        scores.hide(r - strip.first_row, 0, begin);
        scores.hide(r - strip.first_row, end, strip.n_key);
    }
}

/// The block's query rows, scaled so that scores come out in powers of two.
void load_queries(const PrefillQueries& queries, const PackedKv::Impl& kv, const Block& block, int group_size,
                  int padded_rows, std::byte* target) {
    const size_t row_bytes = static_cast<size_t>(kv.key_length) * gemm_type_size(kv.type);
    const auto head_dim = static_cast<size_t>(kv.head_dim);
    int row = 0;
    for (int i = 0; i < block.n_query; ++i) {
        const size_t first_head = static_cast<size_t>(block.first_query + i) * static_cast<size_t>(queries.n_head) +
                                  static_cast<size_t>(block.head_kv * group_size);
        for (int g = 0; g < group_size; ++g, ++row) {
            convert_row(queries.q + (first_head + static_cast<size_t>(g)) * head_dim, kv.head_dim,
                        queries.scale * log2_e, kv.type, target + static_cast<size_t>(row) * row_bytes, kv.key_length);
        }
    }
    std::memset(target + static_cast<size_t>(row) * row_bytes, 0, static_cast<size_t>(padded_rows - row) * row_bytes);
}

void store_outputs(const PrefillQueries& queries, const PackedKv::Impl& kv, const Block& block, int group_size,
                   int padded_rows, const float* outputs, const float* sum) {
    for (int i = 0; i < block.n_query; ++i) {
        for (int g = 0; g < group_size; ++g) {
            const int row = i * group_size + g;
            const int head = block.head_kv * group_size + g;
            float* out =
                queries.out + (static_cast<size_t>(block.first_query + i) * static_cast<size_t>(queries.n_head) +
                               static_cast<size_t>(head)) *
                                  static_cast<size_t>(kv.head_dim);
            for (int group = 0; group < kv.n_group; ++group) {
                const float* from =
                    outputs + static_cast<size_t>(group * padded_rows + row) * static_cast<size_t>(value_cols);
                const int first_col = group * value_cols;
                convert_row(from, std::min(value_cols, kv.head_dim - first_col), 1.0F / sum[row], GemmType::f32,
                            out + first_col, std::min(value_cols, kv.head_dim - first_col));
            }
        }
    }
}

/// A block while it passes over its keys.
struct Pass {
    const PackedKv::Impl& kv;
    const PrefillQueries& queries;
    Block block;
    int group_size;
    int rows;          ///< n_query · group_size
    int padded_rows;   ///< rows of every buffer
    ReadyRows loaded;  ///< Scratch::queries
    void* scores;
    float* outputs;
    OnlineSoftmax online;  ///< [padded_rows]
    float* scales;         ///< of probabilities

    ReadyRows queries_from(size_t row) const {
        const size_t bytes = static_cast<size_t>(kv.key_length) * gemm_type_size(kv.type);
        return {static_cast<const std::byte*>(loaded.values) + row * bytes, loaded.scales + row};
    }
};

/// One run of keys for one strip of rows: scores, a step of the online softmax, and what their values add.
void attend_strip(const Pass& pass, const Strip& strip) {
    const PackedKv::Impl& kv = pass.kv;
    const int head = pass.block.head_kv, unit = strip.first_key / kv.unit;
    const auto row = static_cast<size_t>(strip.first_row);
    ScoreBlock scores(kv.type, kv.key_length, strip.n_row, strip.n_key, pass.scores, pass.scales);
    scores.multiply(pass.queries_from(row), {kv.key_unit(head, unit), kv.scales_of_keys(head, unit)});
    if (!strip.sees_all) hide_keys(pass.queries, pass.block, pass.group_size, strip, scores);
    const OnlineSoftmax online = pass.online.from(row);
    const ReadyRows probabilities = scores.to_probabilities(online);
    for (int group = 0; group < kv.n_group; ++group) {
        float* part = pass.outputs + (static_cast<size_t>(group * pass.padded_rows) + row) * value_cols;
        scale_rows(part, strip.n_row, value_cols, online.decay);
        multiply(dense_product(kv.type, strip.n_row, value_cols, strip.n_key, true), probabilities,
                 {kv.value_unit(head, group, unit), kv.scales_of_values(head, group, unit)}, part);
    }
}

/// The part of a run of keys [first_key, end_key) that a strip's rows see, in whole units; n_key is 0 if it is none.
Strip visible_strip(const Pass& pass, int first_row, int n_row, int first_key, int end_key) {
    const int last_row = std::min(first_row + n_row, pass.rows) - 1;
    const int first_query = pass.block.first_query + first_row / pass.group_size;
    const int last_query = pass.block.first_query + last_row / pass.group_size;
    const int unit = pass.kv.unit;
    const int step = pass.kv.step_units * unit;
    const int begin = std::max(first_key, first_visible(pass.queries, first_query) / step * step);
    const int end = std::min(end_key, round_up(pass.queries.key_row[last_query] + 1, unit));
    // the first query sees the last of them, and the last query's window still has the first
    const bool sees_all =
        pass.queries.key_row[first_query] >= end - 1 && first_visible(pass.queries, last_query) <= begin;
    return {first_row, n_row, begin, std::max(0, end - begin), sees_all};
}

Pass begin_pass(const PackedKv::Impl& kv, const PrefillQueries& queries, const Block& block, int group_size) {
    const ProductSizes sizes = product_sizes(kv.type);
    const int rows = block.n_query * group_size;
    const int padded_rows = round_up(rows, product_m_step);
    const auto n_row = static_cast<size_t>(padded_rows);
    Scratch& scratch = thread_scratch();
    scratch.queries.reserve(n_row * static_cast<size_t>(kv.key_length) * gemm_type_size(kv.type));
    const size_t n_output = static_cast<size_t>(kv.n_group) * n_row * value_cols;
    auto* outputs = scratch.outputs.reserve_as<float>(n_output);
    auto* max = scratch.statistics.reserve_as<float>(5 * n_row);
    float* query_scales = max + 3 * n_row;
    std::fill(outputs, outputs + n_output, 0.0F);
    std::fill(max, max + n_row, -std::numeric_limits<float>::infinity());
    std::fill(max + n_row, max + 2 * n_row, 0.0F);
    load_queries(queries, kv, block, group_size, padded_rows, scratch.queries.data());
    const ReadyRows loaded = ready_rows(kv.type, padded_rows, kv.key_length, scratch.queries.data(),
                                        static_cast<size_t>(kv.key_length), Magnitude::any, query_scales);
    scratch.scores.reserve(static_cast<size_t>(std::min(sizes.strip_rows, padded_rows)) *
                           static_cast<size_t>(kv.run_units * kv.unit) *
                           ScoreBlock::score_bytes(kv.type, kv.key_length));
    const OnlineSoftmax online{max, max + n_row, max + 2 * n_row};
    return {kv,      queries, block,          group_size, rows, padded_rows, loaded, scratch.scores.data(),
            outputs, online,  max + 4 * n_row};
}

void attend(const PackedKv::Impl& kv, const PrefillQueries& queries, const Block& block, int group_size) {
    const Pass pass = begin_pass(kv, queries, block, group_size);
    const int whole_strip = product_sizes(kv.type).strip_rows;
    const int begin = first_visible(queries, block.first_query) / kv.unit / kv.step_units * kv.step_units;
    const int end = queries.key_row[block.first_query + block.n_query - 1] / kv.unit + 1;
    const int n_run = (end - begin + kv.run_units - 1) / kv.run_units;
    const int step = round_up((end - begin + n_run - 1) / n_run, kv.step_units);  // runs of about equal length
    for (int u = begin; u < end; u += step) {
        const int strip_rows = u + step < end ? whole_strip : std::min(whole_strip, max_edge_rows);
        for (int row = 0; row < pass.padded_rows; row += strip_rows) {
            const Strip strip = visible_strip(pass, row, std::min(strip_rows, pass.padded_rows - row), u * kv.unit,
                                              std::min(end, u + step) * kv.unit);
            if (strip.n_key > 0) attend_strip(pass, strip);
        }
    }
    store_outputs(queries, kv, block, group_size, pass.padded_rows, pass.outputs, pass.online.sum);
}

/// Queries of a block.
int block_queries_of(const PackedKv::Impl& kv, int group_size) {
    const int most = std::clamp(product_sizes(kv.type).attention_rows / group_size, 1, max_block_queries);
    return most > product_m_step ? most / product_m_step * product_m_step : most;
}

}  // namespace

void prefill_attention(const PackedKv& packed, const PrefillQueries& queries, Team& team) {
    const PackedKv::Impl& kv = packed.impl();
    const ProductScope scope;
    const int group_size = queries.n_head / kv.n_head_kv;
    const int block_queries = block_queries_of(kv, group_size);
    const int n_block = (queries.n_query + block_queries - 1) / block_queries;
    // later queries see more keys: the dearest blocks come first
    for (int task = team.take(); task < n_block * kv.n_head_kv; task = team.take()) {
        const int first = (n_block - 1 - task / kv.n_head_kv) * block_queries;
        const Block block{task % kv.n_head_kv, first, std::min(block_queries, queries.n_query - first)};
        attend(kv, queries, block, group_size);
    }
}

void prefill_attention(const PackedKv& packed, const PrefillQueries& queries) {
    const PackedKv::Impl& kv = packed.impl();
    const ProductScope scope;
    const int group_size = queries.n_head / kv.n_head_kv;
    const int block_queries = block_queries_of(kv, group_size);
    for (int head = 0; head < kv.n_head_kv; ++head) {
        for (int first = 0; first < queries.n_query; first += block_queries) {
            attend(kv, queries, {head, first, std::min(block_queries, queries.n_query - first)}, group_size);
        }
    }
}

}  // namespace fastkv::kernels
