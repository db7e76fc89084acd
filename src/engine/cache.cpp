#include "engine/cache.h"

#include <algorithm>
#include <numeric>

#include "methods/eviction.h"

namespace fastkv {

namespace {

/// [cached heads]
std::vector<int> capacity_for(const Device& device, const CacheState& state, int n_predict) {
    std::vector<int> capacity;
    for (int head = 0; head < state.n_head; ++head) {
        capacity.push_back(cache_capacity(device, int(state.positions_of(head).size()), n_predict));
    }
    return capacity;
}

/// Rows of K or V as a tensor of its own. `ctx` holds the description only.
ggml_tensor* rows_view(ggml_context* ctx, ggml_tensor* tensor, int64_t first, int64_t rows) {
    ggml_tensor* view = ggml_view_2d(ctx, tensor, tensor->ne[0], rows, tensor->nb[1], size_t(first) * tensor->nb[1]);
    ggml_backend_view_init(view);
    return view;
}

}  // namespace

kernels::KvType kernel_type(ggml_type type) {
    switch (type) {
        case GGML_TYPE_F32: return kernels::KvType::f32;
        case GGML_TYPE_Q8_0: return kernels::KvType::q8_0;
        case GGML_TYPE_Q5_0: return kernels::KvType::q5_0;
        case GGML_TYPE_Q4_0: return kernels::KvType::q4_0;
        default: return kernels::KvType::f16;
    }
}

kernels::KvView kv_view(const ggml_tensor* tensor) {
    return {tensor->data, kernel_type(tensor->type), tensor->nb[1], tensor->nb[2]};
}

ggml_tensor* flat_rows(ggml_context* ctx, ggml_tensor* tensor) {
    return ggml_view_2d(ctx, tensor, tensor->ne[0], tensor->ne[1] * tensor->ne[2], tensor->nb[1], 0);
}

LayerCache::LayerCache(const Device& device, KvTypes types, int head_dim, std::span<const int> capacity)
    : device_(&device), types_(types), head_dim_(head_dim), heads_(capacity.size()) {
    allocate(capacity);
    positions_.resize(size_t(capacity_[0]));
    point_at(positions_);
}

LayerCache::LayerCache(const Device& device, KvTypes types, int head_dim, const CacheState& state, int n_predict)
    : LayerCache(device, types, head_dim, capacity_for(device, state, n_predict)) {
    set_filled(state.positions);
    if (kv_.frame) write_frame(state.frame, kv_.frame);
    for (auto [tensor, rows] : {std::pair{kv_.k, state.k.data()}, std::pair{kv_.v, state.v.data()}}) {
        for (int head = 0; head < n_head(); ++head) {
            const size_t bytes = size_t(n_entry(head)) * tensor->nb[1];
            if (bytes > 0) ggml_backend_tensor_set(tensor, rows, size_t(row(head, 0)) * tensor->nb[1], bytes);
            rows += bytes;
        }
    }
}

CacheState LayerCache::state() const {
    CacheState state{.n_head = n_head(), .positions = {}, .k = {}, .v = {}, .frame = read_frame(kv_.frame)};
    for (int head = 0; head < (shares_positions_ ? 1 : n_head()); ++head) {
        state.positions.emplace_back(positions(head).begin(), positions(head).end());
    }
    for (auto [tensor, rows] : {std::pair{kv_.k, &state.k}, std::pair{kv_.v, &state.v}}) {
        rows->resize(size_t(state.n_entry()) * tensor->nb[1]);
        std::byte* to = rows->data();
        for (int head = 0; head < n_head(); ++head) {
            const size_t bytes = size_t(n_entry(head)) * tensor->nb[1];
            if (bytes > 0) ggml_backend_tensor_get(tensor, to, size_t(row(head, 0)) * tensor->nb[1], bytes);
            to += bytes;
        }
    }
    return state;
}

bool LayerCache::is_even() const {
    return std::all_of(heads_.begin(), heads_.end(),
                       [&](const kernels::CacheHead& head) { return head.n_entry == heads_[0].n_entry; }) &&
           std::all_of(capacity_.begin(), capacity_.end(), [&](int rows) { return rows == capacity_[0]; });
}

KvTensors LayerCache::head_tensors(ggml_context* ctx, int head) const {
    return {.k = rows_view(ctx, kv_.k, row(head, 0), capacity(head)),
            .v = rows_view(ctx, kv_.v, row(head, 0), capacity(head)),
            .frame = frame_of_head(ctx, kv_.frame, head)};
}

int LayerCache::max_entry() const {
    int most = 0;
    for (const kernels::CacheHead& head : heads_) most = std::max(most, head.n_entry);
    return most;
}

void LayerCache::set_filled(std::span<const std::vector<int>> positions) {
    shares_positions_ = positions.size() == 1;
    const size_t rows = size_t(std::accumulate(capacity_.begin(), capacity_.end(), int64_t{0}));
    positions_.resize(shares_positions_ ? size_t(capacity_[0]) : rows);
    for (int head = 0; head < n_head(); ++head) {
        const auto& list = positions[shares_positions_ ? 0 : size_t(head)];
        heads_[size_t(head)].n_entry = int(list.size());
        std::copy(list.begin(), list.end(),
                  positions_.begin() + (shares_positions_ ? 0 : ptrdiff_t(heads_[size_t(head)].first_row)));
    }
    point_at(positions_);
}

void LayerCache::append(std::span<const int32_t> positions, bool& moved) {
    const int n = int(positions.size());
    for (int head = 0; head < n_head(); ++head) {
        if (n_entry(head) + n <= capacity(head)) continue;
        grow(n);
        moved = true;
        break;
    }
    for (int head = 0; head < n_head(); ++head) {
        const int64_t list = shares_positions_ ? 0 : heads_[size_t(head)].first_row;
        std::copy(positions.begin(), positions.end(), positions_.begin() + ptrdiff_t(list) + n_entry(head));
        heads_[size_t(head)].n_entry += n;
    }
}

void LayerCache::place_first(std::span<const int32_t> shift) {
    places_ = positions_;
    for (int head = 0; head < (shares_positions_ ? 1 : n_head()); ++head) {
        for (size_t entry = 0; entry < shift.size(); ++entry) places_[first_position(head) + entry] += shift[entry];
    }
    point_at(places_);
}

void LayerCache::cut_back(int position) {
    for (int head = 0; head < n_head(); ++head) {
        const auto own = positions(head);
        heads_[size_t(head)].n_entry = int(std::lower_bound(own.begin(), own.end(), position) - own.begin());
    }
}

void LayerCache::remove(std::span<const std::vector<int>> entries) {
    if (entries.size() > 1) own_positions();
    for (int head = 0; head < n_head(); ++head) {
        const std::vector<int>& removed = entries[entries.size() == 1 ? 0 : size_t(head)];
        kernels::CacheHead& own = heads_[size_t(head)];
        std::vector<int> left(size_t(own.n_entry));  // which entry lies where now
        std::iota(left.begin(), left.end(), 0);
        remove_entries(left, removed);
        for (size_t entry = 0; entry < left.size(); ++entry) {
            if (left[entry] != int(entry)) move_row(row(head, left[entry]), row(head, int(entry)));
        }
        if (!shares_positions_ || head == 0) {
            int32_t* position = positions_.data() + (shares_positions_ ? 0 : own.first_row);
            for (size_t entry = 0; entry < left.size(); ++entry) position[entry] = position[left[entry]];
        }
        own.n_entry = int(left.size());
    }
}

void LayerCache::read_keys(int head, int n, float* keys) const {
    std::vector<std::byte> rows(size_t(n) * kv_.k->nb[1]);
    ggml_backend_tensor_get(kv_.k, rows.data(), size_t(row(head, 0)) * kv_.k->nb[1], rows.size());
    const int64_t values = int64_t(n) * head_dim_;
    if (types_.k == GGML_TYPE_F32) {
        std::copy_n(reinterpret_cast<const float*>(rows.data()), values, keys);
    } else {
        ggml_get_type_traits(types_.k)->to_float(rows.data(), keys, values);
    }
    if (!kv_.frame) return;
    const HostFrame frame = read_frame(kv_.frame);
    const size_t dim = size_t(head_dim_);
    for (size_t i = 0; i < size_t(values); ++i) {
        const size_t component = size_t(head) * dim + i % dim;
        keys[i] = frame.offset[component] + frame.scale[component] * keys[i];
    }
}

/// Tensors and places of the heads for these capacities; nothing is filled.
void LayerCache::allocate(std::span<const int> capacity) {
    const int64_t n = int64_t(capacity.size());
    int64_t rows = 0;  // of all heads
    capacity_.assign(capacity.begin(), capacity.end());
    for (size_t head = 0; head < capacity.size(); ++head) {
        heads_[head].first_row = rows;
        rows += capacity[head];
    }
    const bool even = std::all_of(capacity.begin(), capacity.end(), [&](int c) { return c == capacity[0]; });
    auto store = std::make_unique<TensorStore>(*device_, 4);
    kv_.k = store->add(types_.k, {head_dim_, even ? capacity[0] : rows, even ? n : 1});
    kv_.v = store->add(types_.v, {head_dim_, even ? capacity[0] : rows, even ? n : 1});
    if (has_frame(kernel_type(types_.k))) {
        kv_.frame = {store->add(GGML_TYPE_F32, {head_dim_, n}), store->add(GGML_TYPE_F32, {head_dim_, n})};
    }
    store->allocate_side_by_side("the cache of a layer");
    store_ = std::move(store);
    const size_t n_component = size_t(n) * size_t(head_dim_);
    if (kv_.frame) {
        write_frame({std::vector<float>(n_component, 0.0f), std::vector<float>(n_component, 1.0f)}, kv_.frame);
    }
}

/// Moves all entries to tensors with room for at least `n_more` in every head.
void LayerCache::grow(int n_more) {
    const std::unique_ptr<TensorStore> old_store = std::move(store_);
    const KvTensors old_kv = kv_;
    const std::vector<kernels::CacheHead> old_heads = heads_;
    std::vector<std::vector<int>> old_positions;  // [n_head], or one list
    for (int head = 0; head < (shares_positions_ ? 1 : n_head()); ++head) {
        old_positions.emplace_back(positions(head).begin(), positions(head).end());
    }
    std::vector<int> larger;  // [n_head]
    for (int head = 0; head < n_head(); ++head) {
        larger.push_back(cache_capacity(*device_, n_entry(head), std::max({n_more, 256, n_entry(head) / 4})));
    }
    allocate(larger);
    if (kv_.frame) write_frame(read_frame(old_kv.frame), kv_.frame);
    const ggml_context_ptr views(ggml_init({size_t(4 * n_head()) * ggml_tensor_overhead(), nullptr, true}));
    for (size_t head = 0; head < heads_.size(); ++head) {
        const int n = old_heads[head].n_entry;
        if (n == 0) continue;
        for (auto [from, to] : {std::pair{old_kv.k, kv_.k}, std::pair{old_kv.v, kv_.v}}) {
            ggml_backend_tensor_copy(rows_view(views.get(), from, old_heads[head].first_row, n),
                                     rows_view(views.get(), to, heads_[head].first_row, n));
        }
    }
    set_filled(old_positions);
}

/// Gives every head a list of positions of its own.
void LayerCache::own_positions() {
    if (!shares_positions_) return;
    const std::vector<int> shared(positions(0).begin(), positions(0).end());
    set_filled(std::vector<std::vector<int>>(heads_.size(), shared));
}

void LayerCache::point_at(const std::vector<int32_t>& positions) {
    for (int head = 0; head < n_head(); ++head) heads_[size_t(head)].position = positions.data() + first_position(head);
}

void LayerCache::move_row(int64_t from, int64_t to) {
    for (ggml_tensor* tensor : {kv_.k, kv_.v}) {
        std::vector<std::byte> bytes(tensor->nb[1]);
        ggml_backend_tensor_get(tensor, bytes.data(), size_t(from) * tensor->nb[1], bytes.size());
        ggml_backend_tensor_set(tensor, bytes.data(), size_t(to) * tensor->nb[1], bytes.size());
    }
}

namespace {

/// Flat rows of keys or values, from where to where.
struct RowMoves {
    std::vector<int32_t> from;
    std::vector<int64_t> to;
    std::vector<int32_t> head;  // cached one
};

/// Which rows of `kv`, whose heads are `head_rows` apart, become the entries of the cached heads.
RowMoves moves_to(const LayerCache& cache, std::span<const std::vector<int>> rows, int64_t head_rows, int n_share) {
    RowMoves moves;
    for (int head = 0; head < cache.n_head(); ++head) {
        const std::vector<int>& own = rows[size_t(head)];
        for (size_t entry = 0; entry < own.size(); ++entry) {
            moves.from.push_back(int32_t(head / n_share * head_rows + own[entry]));
            moves.to.push_back(cache.row(head, int(entry)));
            moves.head.push_back(head);
        }
    }
    return moves;
}

/// `frame` of the keys' tensor for the cache's heads, of which `n_share` read the same one.
HostFrame shared_frame(const KeyFrame& frame, int n_head, int n_share) {
    const HostFrame own = read_frame(frame);
    const size_t dim = size_t(frame.offset->ne[0]);
    HostFrame shared;
    for (int head = 0; head < n_head; ++head) {
        const auto first = ptrdiff_t(size_t(head / n_share) * dim);
        const auto append = [&](const std::vector<float>& from, std::vector<float>& to) {
            to.insert(to.end(), from.begin() + first, from.begin() + first + ptrdiff_t(dim));
        };
        append(own.offset, shared.offset);
        append(own.scale, shared.scale);
    }
    return shared;
}

/// The frame of the keys that become the cached heads' `rows`, of some 4,096 of each head.
HostFrame measured_frame(ggml_tensor* k, std::span<const std::vector<int>> rows, const RowMoves& moves,
                         const Device& device, ggml_gallocr_t allocator) {
    HostFrame frame;
    size_t first = 0;  // move of the head
    for (const std::vector<int>& own : rows) {
        const size_t step = own.size() / 4096 + 1;
        std::vector<int32_t> sample;
        for (size_t entry = 0; entry < own.size(); entry += step) sample.push_back(moves.from[first + entry]);
        first += own.size();
        Graph graph(device, allocator, 8);
        ggml_tensor* from = graph.input(GGML_TYPE_I32, {int64_t(sample.size())}, sample.data());
        ggml_tensor* keys = ggml_get_rows(graph.ctx(), flat_rows(graph.ctx(), k), from);
        graph.output(keys);
        graph.run();
        std::vector<float> host(size_t(ggml_nelements(keys)));
        graph.read(keys, host.data());
        add_frame_of(host, int(k->ne[0]), frame);
    }
    return frame;
}

}  // namespace

void copy_rows(const KvTensors& kv, int64_t head_rows, std::span<const std::vector<int>> rows, LayerCache& cache,
               ggml_gallocr_t allocator) {
    const KvTensors& target = cache.tensors();
    const int n_head_kv = int(kv.k->ne[1] * kv.k->ne[2] / head_rows);
    const int n_share = cache.n_head() / n_head_kv;  // cached heads that read one head of kv
    const RowMoves moves = moves_to(cache, rows, head_rows, n_share);
    if (moves.from.empty()) return;
    if (target.frame) {
        write_frame(kv.frame ? shared_frame(kv.frame, cache.n_head(), n_share)
                             : measured_frame(kv.k, rows, moves, cache.device(), allocator),
                    target.frame);
    }
    const bool frame_keys = target.frame && !kv.frame;
    const size_t piece = 8192;  // of float32 rows in between
    for (size_t first = 0; first < moves.from.size(); first += piece) {
        const int64_t n = int64_t(std::min(piece, moves.from.size() - first));
        Graph graph(cache.device(), allocator, 24);
        ggml_context* ctx = graph.ctx();
        ggml_tensor* from = graph.input(GGML_TYPE_I32, {n}, moves.from.data() + first);
        ggml_tensor* to = graph.input(GGML_TYPE_I64, {n}, moves.to.data() + first);
        ggml_tensor* k = ggml_get_rows(ctx, flat_rows(ctx, kv.k), from);
        ggml_tensor* v = ggml_get_rows(ctx, flat_rows(ctx, kv.v), from);
        if (frame_keys) {
            ggml_tensor* head = graph.input(GGML_TYPE_I32, {n}, moves.head.data() + first);
            k = build_framed(
                ctx, k, {ggml_get_rows(ctx, target.frame.offset, head), ggml_get_rows(ctx, target.frame.scale, head)});
        }
        graph.compute(ggml_set_rows(ctx, flat_rows(ctx, target.k), k, to));
        graph.compute(ggml_set_rows(ctx, flat_rows(ctx, target.v), v, to));
        graph.run();
    }
}

uint64_t cache_bytes(KvTypes types, int head_dim, int n_head, int64_t n_entry) {
    const uint64_t rows = (ggml_row_size(types.k, head_dim) + ggml_row_size(types.v, head_dim)) * uint64_t(n_entry);
    return rows + (has_frame(kernel_type(types.k)) ? 2 * uint64_t(n_head) * uint64_t(head_dim) * sizeof(float) : 0);
}

int cache_capacity(const Device& device, int n_entry, int n_predict) {
    const int wanted = n_entry + std::max(n_predict, 1);
    return device.own_kernels ? wanted : (wanted + 255) / 256 * 256;
}

}  // namespace fastkv
