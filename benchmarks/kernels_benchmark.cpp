// Speed of the CPU kernels on the shapes of real models, and the share that they reach of this machine's peak: for
// arithmetic AMX's tiles or vectors without loads, for the cache the fastest plain read.
#include <benchmark/benchmark.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/aligned_buffer.h"
#include "kernels/amx_product.h"
#include "kernels/cache_attention.h"
#include "kernels/gemm.h"
#include "kernels/half_product.h"
#include "kernels/int8_product.h"
#include "kernels/key_scores.h"
#include "kernels/prefill_attention.h"
#include "kernels/product.h"
#include "kernels/quantized_linear.h"
#include "kernels/simd.h"
#include "kernels/vector_ops.h"

namespace {

using namespace fastkv::kernels;

/// Threads that stay, as an engine's do: kernels keep their scratch per thread.
class Crew {
  public:
    explicit Crew(int nth) : nth_(nth), start_(nth), finish_(nth) {
        for (int ith = 1; ith < nth; ++ith) {
            helpers_.emplace_back([this, ith] { serve(ith); });
        }
    }
    ~Crew() {
        stop_ = true;
        start_.arrive_and_wait();
        for (std::thread& helper : helpers_) {
            helper.join();
        }
    }
    Crew(const Crew&) = delete;
    Crew& operator=(const Crew&) = delete;

    void run(const std::function<void(int)>& work) {
        work_ = &work;
        start_.arrive_and_wait();
        work(0);
        finish_.arrive_and_wait();
    }

    /// A kernel whose threads take its work in pieces.
    void run_team(const std::function<void(Team&)>& work) {
        Team team(nth_);
        run([&](int) { work(team); });
    }

  private:
    void serve(int ith) {
        for (;;) {
            start_.arrive_and_wait();
            if (stop_) {
                return;
            }
            (*work_)(ith);
            finish_.arrive_and_wait();
        }
    }

    int nth_;
    std::barrier<> start_;
    std::barrier<> finish_;
    std::atomic<bool> stop_ = false;
    const std::function<void(int)>* work_ = nullptr;
    std::vector<std::thread> helpers_;
};

Crew& crew(int nth) {
    static std::map<int, std::unique_ptr<Crew>> crews;
    std::unique_ptr<Crew>& found = crews[nth];
    if (!found) {
        found = std::make_unique<Crew>(nth);
    }
    return *found;
}

std::vector<float> ramp(size_t n) {
    std::vector<float> values(n);
    for (size_t i = 0; i < n; ++i) {
        values[i] = std::sin(static_cast<float>(i % 100003));
    }
    return values;
}

/// Float16 bits of numbers between -2 and 2.
void fill_halves(uint16_t* values, size_t n) {
    for (size_t i = 0; i < n; ++i) {
        values[i] = static_cast<uint16_t>(0x3000U + (i * 40503U) % 0x1000U + ((i * 7U) % 3U == 0 ? 0x8000U : 0U));
    }
}

std::vector<uint16_t> halves(size_t n) {
    std::vector<uint16_t> values(n);
    fill_halves(values.data(), n);
    return values;
}

double seconds(const std::function<void()>& work, int repeats) {
    double best = 1e30;
    for (int i = 0; i < repeats; ++i) {
        const auto begin = std::chrono::steady_clock::now();
        work();
        best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    }
    return best;
}

/// Weights as small as real ones, and no two rows alike: results neither grow nor vanish from layer to layer.
PackedWeights some_weights(GemmType type, int n, int k, bool reads_hidden = false) {
    PackedWeights weights(type, n, k, reads_hidden);
    const auto read_row = [&](int row, float* values) {
        for (int i = 0; i < k; ++i)
            values[i] = 0.04F * std::sin(static_cast<float>((row * 131 + i * 7 + row * i % 17) % 1009));
    };
    for (int s = 0; s < weights.n_slab(); ++s) weights.pack_slab(s, read_row);
    return weights;
}

/// One linear layer: packed weights and operands.
struct Layer {
    PackedWeights weights;
    std::vector<float> x;
    std::vector<float> y;
    int m;

    Layer(GemmType type, int rows, int n, int k)
        : weights(some_weights(type, n, k)),
          x(ramp(static_cast<size_t>(rows) * static_cast<size_t>(k))),
          y(static_cast<size_t>(rows) * static_cast<size_t>(n)),
          m(rows) {}
    void run(Crew& threads) {
        threads.run_team([&](Team& team) {
            linear(weights, x.data(), static_cast<size_t>(weights.k()), y.data(), static_cast<size_t>(weights.n()), m,
                   team);
        });
    }
    double operations() const { return 2.0 * m * weights.n() * weights.k(); }
};

#if defined(__x86_64__) && defined(__linux__) && __has_include(<amxtileintrin.h>)
/// Products of tiles that are loaded already, four after each other whose results do not wait for one another. The
/// tiles are full of ones: full of zeros they multiply a sixth faster.
__attribute__((target("amx-tile,amx-bf16,amx-int8"))) void multiply_loaded_tiles(GemmType type, int fours) {
    const ProductScope tiles;
    uint16_t ones[512];
    std::fill(std::begin(ones), std::end(ones), type == GemmType::int8 ? 0x0101 : 0x3F80);
    _tile_loadd(4, ones, 64);
    _tile_loadd(5, ones, 64);
    _tile_loadd(6, ones, 64);
    _tile_loadd(7, ones, 64);
    if (type == GemmType::int8) {
        for (int i = 0; i < fours; ++i) {
            _tile_dpbssd(0, 4, 6);
            _tile_dpbssd(1, 4, 7);
            _tile_dpbssd(2, 5, 6);
            _tile_dpbssd(3, 5, 7);
        }
        return;
    }
    for (int i = 0; i < fours; ++i) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
}
#else
void multiply_loaded_tiles(GemmType, int) {}
#endif

/// Operations per second of AMX's products without any loads: no kernel can be faster.
double tile_flops(GemmType type, int nth) {
    constexpr int fours = 20000;
    const double operations = 4 * 2.0 * 16 * 16 * (type == GemmType::int8 ? 64 : 32);
    const double best = seconds([&] { crew(nth).run([&](int) { multiply_loaded_tiles(type, fours); }); }, 40);
    return nth * fours * operations / best;
}

#if defined(__x86_64__)
#define FASTKV_SIX(name) \
    name " %6,%6,%0\n" name " %6,%6,%1\n" name " %6,%6,%2\n" name " %6,%6,%3\n" name " %6,%6,%4\n" name " %6,%6,%5"

/// `n` times twelve multiply-adds of vectors that are loaded already, whose results do not wait for one another.
#define FASTKV_MULTIPLY_LOADED(function, isa, vector, name)                                         \
    __attribute__((target(isa))) void function(int n) {                                             \
        vector x = {}, s[12] = {};                                                                  \
        for (int i = 0; i < n; ++i) {                                                               \
            asm volatile(FASTKV_SIX(name)                                                           \
                         : "+v"(s[0]), "+v"(s[1]), "+v"(s[2]), "+v"(s[3]), "+v"(s[4]), "+v"(s[5])   \
                         : "v"(x));                                                                 \
            asm volatile(FASTKV_SIX(name)                                                           \
                         : "+v"(s[6]), "+v"(s[7]), "+v"(s[8]), "+v"(s[9]), "+v"(s[10]), "+v"(s[11]) \
                         : "v"(x));                                                                 \
        }                                                                                           \
    }
FASTKV_MULTIPLY_LOADED(multiply_loaded_256, "avx2,fma", __m256, "vfmadd231ps")
FASTKV_MULTIPLY_LOADED(multiply_loaded_512, "avx512f", __m512, "vfmadd231ps")
FASTKV_MULTIPLY_LOADED(multiply_loaded_halves, "avx512f", __m512, "vfmadd231ph")
FASTKV_MULTIPLY_LOADED(multiply_loaded_bytes, "avx512f", __m512i, "vpdpbusd")
#undef FASTKV_MULTIPLY_LOADED
#undef FASTKV_SIX

/// Operations per second of the fastest multiply-adds without any loads that kernels use for `type`; 0 if none.
double vector_flops(GemmType type, int nth) {
    constexpr int n = 20000;
    const bool is_512 = max_isa() >= Isa::avx512 && __builtin_cpu_supports("avx512f");
    void (*multiply)(int) = nullptr;
    int lanes = 0;
    if (type == GemmType::int8) {
        if (int8::available()) multiply = multiply_loaded_bytes, lanes = 64;
    } else if (type == GemmType::bf16 && half::available()) {
        multiply = multiply_loaded_halves, lanes = 32;
    } else if (is_512) {
        multiply = multiply_loaded_512, lanes = 16;
    } else if (__builtin_cpu_supports("fma")) {
        multiply = multiply_loaded_256, lanes = 8;
    }
    return multiply ? nth * n * 12 * 2.0 * lanes / seconds([&] { crew(nth).run([&](int) { multiply(n); }); }, 40) : 0;
}
#else
double vector_flops(GemmType, int) { return 0; }
#endif

/// The most that any kernel here can reach: AMX's tiles alone, or without them vectors alone, or a large product by
/// something faster that stays in the caches.
double peak_flops(GemmType type, int nth) {
    static std::map<std::pair<GemmType, int>, double> known;
    double& peak = known[{type, nth}];
    if (peak == 0 && type != GemmType::f32 && amx::available()) peak = tile_flops(type, nth);
    if (peak == 0) {
        Layer layer(type, 1024, 1024, 1024);
        peak = layer.operations() / seconds([&] { layer.run(crew(nth)); }, 40);
        peak = std::max(peak, vector_flops(type, nth));
    }
    return peak;
}

/// Bytes per second of adding up memory that is `bytes` long.
double peak_bandwidth(size_t bytes, int nth) {
    static std::map<std::pair<size_t, int>, double> known;
    double& peak = known[{bytes, nth}];
    if (peak == 0) {
        const AlignedBuffer memory(bytes);  // in large pages, as weights and caches are
        uint64_t* words = memory.as<uint64_t>();
        const size_t n_word = bytes / 8;
        std::fill(words, words + n_word, 1);
        const auto add = [&](int ith) {
            const size_t begin = n_word * static_cast<size_t>(ith) / static_cast<size_t>(nth);
            const size_t end = n_word * (static_cast<size_t>(ith) + 1) / static_cast<size_t>(nth);
            uint64_t sums[8] = {};
            for (size_t i = begin; i + 8 <= end; i += 8) {
                for (size_t c = 0; c < 8; ++c) {
                    sums[c] += words[i + c];
                }
            }
            benchmark::DoNotOptimize(sums);
        };
        peak = static_cast<double>(bytes) / seconds([&] { crew(nth).run(add); }, 40);
    }
    return peak;
}

/// Runs `work` as often as the benchmark wants; returns the seconds of the fastest run, which other guests of the
/// machine disturbed least.
double best_seconds(benchmark::State& state, const std::function<void()>& work) {
    work();
    double best = 1e30;
    for (auto _ : state) best = std::min(best, seconds(work, 1));
    return best;
}

/// Of the fastest run.
void report_flops(benchmark::State& state, double operations, GemmType type, int nth, double best) {
    state.counters["GFLOP/s"] = operations / best * 1e-9;
    if (gemm_available(type)) state.counters["of_peak"] = operations / best / peak_flops(type, nth);
}

GemmType type_of(int64_t bits) { return bits == 8 ? GemmType::int8 : bits == 16 ? GemmType::bf16 : GemmType::f32; }

bool skip_without(GemmType type, benchmark::State& state) {
    if (!gemm_available(type)) {
        state.SkipWithError("no products of this type here");
        return true;
    }
    return false;
}

// Arguments: bits (8: int8, 16: bf16, 32: f32), rows, n, k, threads.
void bench_linear(benchmark::State& state) {
    const GemmType type = type_of(state.range(0));
    if (skip_without(type, state)) {
        return;
    }
    const int nth = static_cast<int>(state.range(4));
    Layer layer(type, static_cast<int>(state.range(1)), static_cast<int>(state.range(2)),
                static_cast<int>(state.range(3)));
    const double best = best_seconds(state, [&] { layer.run(crew(nth)); });
    report_flops(state, layer.operations(), type, nth, best);
}

// Arguments: bits, rows, n, n_ff, threads.
void bench_layer_end(benchmark::State& state) {
    const GemmType type = type_of(state.range(0));
    if (skip_without(type, state)) return;
    const int rows = static_cast<int>(state.range(1)), n = static_cast<int>(state.range(2));
    const int n_ff = static_cast<int>(state.range(3)), nth = static_cast<int>(state.range(4));
    const PackedWeights output = some_weights(type, n, n);
    const PackedWeights gate = some_weights(type, n_ff, n), up = some_weights(type, n_ff, n);
    const PackedWeights down = some_weights(type, n, n_ff, true);
    const std::vector<float> norm = ramp(static_cast<size_t>(n));
    const std::vector<float> a = ramp(static_cast<size_t>(rows) * static_cast<size_t>(n));
    std::vector<float> x = a;
    const auto stride = static_cast<size_t>(n);
    const LayerEnd layer{&output, {a.data(), stride}, {norm.data(), 1e-5F}, &gate, &up, &down};
    const double best = best_seconds(state, [&] {
        crew(nth).run_team([&](Team& team) { end_layer(layer, {x.data(), stride}, rows, team); });
    });
    report_flops(state, 2.0 * rows * n * (n + 3.0 * n_ff), type, nth, best);
}

// Arguments: bits, rows, head_dim, n_head, n_head_kv, threads. Counts the operations that a causal mask leaves.
void bench_prefill(benchmark::State& state) {
    const GemmType type = type_of(state.range(0));
    if (skip_without(type, state)) {
        return;
    }
    const int rows = static_cast<int>(state.range(1));
    const int dim = static_cast<int>(state.range(2));
    const int n_head = static_cast<int>(state.range(3));
    const int n_head_kv = static_cast<int>(state.range(4));
    const int nth = static_cast<int>(state.range(5));
    const std::vector<uint16_t> kv = halves(static_cast<size_t>(rows) * static_cast<size_t>(n_head_kv * dim));
    const std::vector<float> q = ramp(static_cast<size_t>(rows) * static_cast<size_t>(n_head * dim));
    std::vector<float> out(q.size());
    std::vector<int32_t> row(static_cast<size_t>(rows));
    for (int i = 0; i < rows; ++i) {
        row[static_cast<size_t>(i)] = i;
    }
    const auto head_bytes = static_cast<size_t>(dim) * 2;
    const KvView view{kv.data(), KvType::f16, head_bytes * static_cast<size_t>(n_head_kv), head_bytes};
    PackedKv packed(type, dim, n_head_kv, rows);
    PrefillQueries queries{
        q.data(), out.data(), row.data(), row.data(), rows, n_head, 1.0F / std::sqrt(static_cast<float>(dim)), 0};
    const double best = best_seconds(state, [&] {
        packed.set_rows(view, view, rows, false);
        crew(nth).run_team([&](Team& team) { packed.pack(team); });
        crew(nth).run_team([&](Team& team) { prefill_attention(packed, queries, team); });
    });
    const double pairs = 0.5 * rows * (rows + 1.0);
    report_flops(state, 4.0 * pairs * dim * n_head, type, nth, best);
}

/// A ring of layers' caches, so that each comes from memory, and a query to the one in turn.
struct CacheRing {
    int n_head_kv;
    size_t row_bytes;
    size_t tensor_bytes;
    size_t n_layer;
    AlignedBuffer kv;  // [n_layer][2][tensor_bytes / 2] float16, in large pages as the engine's are
    std::vector<float> q;
    std::vector<CacheHead> heads;
    CacheQuery query;
    size_t layer = 0;

    // Arguments: type of K and V (0: f32, 1: f16, 2: q8_0, 3: q4_0), entries, head_dim, n_head, n_head_kv, threads,
    // whether heads differ in length: from 1 / n_head_kv of `entries` to nearly twice as many, the same in all.
    explicit CacheRing(const benchmark::State& state)
        : n_head_kv(static_cast<int>(state.range(4))),
          row_bytes(kv_row_size(static_cast<KvType>(state.range(0)), static_cast<int>(state.range(2)))),
          tensor_bytes(row_bytes * static_cast<size_t>(state.range(1) * n_head_kv)),
          n_layer((size_t{400} << 20) / (2 * tensor_bytes) + 1),
          kv(2 * tensor_bytes * n_layer),
          q(ramp(static_cast<size_t>(state.range(3) * state.range(2)))) {
        fill_halves(kv.as<uint16_t>(), tensor_bytes * n_layer);
        const int entries = static_cast<int>(state.range(1));
        int64_t row = 0;
        for (int head = 0; head < n_head_kv; ++head) {
            const int n_entry = state.range(6) != 0 ? entries * (2 * head + 1) / n_head_kv : entries;
            heads.push_back({row, n_entry, nullptr});
            row += n_entry;
        }
        query.q = q.data();
        query.k.type = query.v.type = static_cast<KvType>(state.range(0));
        query.k.row_stride = query.v.row_stride = row_bytes;
        query.heads = heads.data();
        query.n_head = static_cast<int>(state.range(3));
        query.n_head_kv = n_head_kv;
        query.head_dim = static_cast<int>(state.range(2));
        query.scale = 1.0F / std::sqrt(static_cast<float>(query.head_dim));
    }

    const CacheQuery& next() {
        const uint16_t* k = kv.as<uint16_t>() + layer * tensor_bytes;  // words of 2 bytes: K and V are tensor_bytes
        query.k.data = k;
        query.v.data = k + tensor_bytes / 2;
        layer = (layer + 1) % n_layer;
        return query;
    }
};

void report_read(benchmark::State& state, size_t bytes, int nth) {
    const double total = static_cast<double>(bytes) * static_cast<double>(state.iterations());
    state.counters["GB/s"] = benchmark::Counter(total * 1e-9, benchmark::Counter::kIsRate);
    state.counters["of_read"] =
        benchmark::Counter(total / peak_bandwidth(size_t{400} << 20, nth), benchmark::Counter::kIsRate);
}

void bench_cache(benchmark::State& state) {
    CacheRing ring(state);
    const int nth = static_cast<int>(state.range(5));
    const CacheQuery& shape = ring.query;
    std::vector<float> out(ring.q.size());
    CacheAttention attention(1, shape.n_head_kv, shape.n_head / shape.n_head_kv, shape.head_dim, nth);
    std::vector<float> partial(attention.partial_size());
    for (auto _ : state) {
        const CacheQuery& query = ring.next();
        crew(nth).run_team([&](Team& team) { attention.attend({&query, 1}, out.data(), partial.data(), team); });
    }
    report_read(state, 2 * ring.tensor_bytes, nth);
}

void bench_cache_weights(benchmark::State& state) {
    CacheRing ring(state);
    const int nth = static_cast<int>(state.range(5));
    const auto stride = static_cast<size_t>(2 * state.range(1));
    std::vector<float> weights(static_cast<size_t>(ring.query.n_head) * stride);
    for (auto _ : state) {
        const CacheQuery& query = ring.next();
        crew(nth).run([&](int ith) { cache_attention_weights(query, weights.data(), stride, ith, nth); });
    }
    report_read(state, ring.tensor_bytes, nth);
}

/// One layer's keys and the queries of its last rows, all causal. Arguments: rows, head_dim, n_head, n_head_kv,
/// queries, threads. Counts the operations that the mask leaves.
struct ScoredLayer {
    std::vector<uint16_t> k;
    std::vector<float> q;
    ScoreQueries queries;
    double operations = 0;

    explicit ScoredLayer(const benchmark::State& state) {
        const int dim = static_cast<int>(state.range(1));
        queries.n_rows = static_cast<int>(state.range(0));
        queries.n_head = static_cast<int>(state.range(2));
        queries.n_head_kv = static_cast<int>(state.range(3));
        queries.n_query = static_cast<int>(state.range(4));
        queries.n_col = queries.n_rows;
        queries.head_dim = dim;
        queries.scale = 1.0F / std::sqrt(static_cast<float>(dim));
        k = halves(static_cast<size_t>(queries.n_rows) * static_cast<size_t>(queries.n_head_kv * dim));
        q = ramp(static_cast<size_t>(queries.n_query) * static_cast<size_t>(queries.n_head * dim));
        const auto head_bytes = static_cast<size_t>(dim) * 2;
        queries.q = q.data();
        queries.k = {k.data(), KvType::f16, head_bytes * static_cast<size_t>(queries.n_head_kv), head_bytes};
        const double keys = queries.n_rows - 0.5 * (queries.n_query - 1);  // that a query sees
        operations = 2.0 * queries.n_query * keys * queries.n_head * dim;
    }
};

void bench_key_scores(benchmark::State& state) {
    const ScoredLayer layer(state);
    const int nth = static_cast<int>(state.range(5));
    std::vector<float> sums(static_cast<size_t>(layer.queries.n_head) * static_cast<size_t>(layer.queries.n_col));
    const double best =
        best_seconds(state, [&] { crew(nth).run([&](int ith) { key_scores(layer.queries, sums.data(), ith, nth); }); });
    report_flops(state, layer.operations, GemmType::f32, nth, best);
}

void bench_mean_attention(benchmark::State& state) {
    const ScoredLayer layer(state);
    const int nth = static_cast<int>(state.range(5));
    std::vector<float> mean(static_cast<size_t>(layer.queries.n_query) * static_cast<size_t>(layer.queries.n_rows));
    const double best = best_seconds(
        state, [&] { crew(nth).run([&](int ith) { mean_attention(layer.queries, mean.data(), ith, nth); }); });
    report_flops(state, layer.operations, GemmType::f32, nth, best);
}

size_t bytes_of_256(BlockType type) {
    switch (type) {
        case BlockType::q4_0: return 8 * 18;
        case BlockType::q4_1: return 8 * 20;
        case BlockType::q5_0: return 8 * 22;
        case BlockType::q8_0: return 8 * 34;
        case BlockType::q4_k: return 144;
        case BlockType::q5_k: return 176;
        case BlockType::q6_k: return 210;
    }
    return 0;
}

/// Rows (a token of each answer) times matrices of a model, one after the other so that each comes from memory.
/// Arguments: type of the blocks (BlockType), rows, n, k, threads.
void bench_quantized_linear(benchmark::State& state) {
    if (!quantized_available()) return state.SkipWithError("no such products here");
    const auto type = static_cast<BlockType>(state.range(0));
    const int m = static_cast<int>(state.range(1)), n = static_cast<int>(state.range(2));
    const int k = static_cast<int>(state.range(3)), nth = static_cast<int>(state.range(4));
    const size_t bytes = static_cast<size_t>(n) * static_cast<size_t>(k) * bytes_of_256(type) / 256;
    const size_t n_matrix = (size_t{400} << 20) / bytes + 1;
    const AlignedBuffer weights(n_matrix * bytes);  // in large pages as the engine's are
    fill_halves(weights.as<uint16_t>(), n_matrix * bytes / 2);
    const std::vector<float> x = ramp(static_cast<size_t>(m) * static_cast<size_t>(k));
    std::vector<float> y(static_cast<size_t>(m) * static_cast<size_t>(n));
    size_t matrix = 0;
    for (auto _ : state) {
        const QuantizedOutput output{
            {type, weights.data() + matrix * bytes, n, k}, {}, {y.data(), static_cast<size_t>(n)}};
        crew(nth).run_team([&](Team& team) {
            quantized_linear({&output, 1}, {}, {x.data(), static_cast<size_t>(k)}, m, team);
        });
        matrix = (matrix + 1) % n_matrix;
    }
    report_read(state, bytes, nth);
}

/// A layer's matrix as the file has it into what products read. Arguments: type of the blocks (BlockType), bits of the
/// result, n, k, threads.
void bench_expand_weights(benchmark::State& state) {
    const GemmType type = type_of(state.range(1));
    if (!quantized_available()) return state.SkipWithError("no such formats here");
    if (skip_without(type, state)) return;
    const auto block = static_cast<BlockType>(state.range(0));
    const int n = static_cast<int>(state.range(2)), k = static_cast<int>(state.range(3));
    const int nth = static_cast<int>(state.range(4));
    const AlignedBuffer weights(static_cast<size_t>(n) * static_cast<size_t>(k) * bytes_of_256(block) / 256);
    fill_halves(weights.as<uint16_t>(), weights.bytes() / 2);
    const QuantizedMatrix matrix{block, weights.data(), n, k};
    PackedWeights packed(type, n, k);
    for (auto _ : state) {
        crew(nth).run([&](int ith) {
            for (int slab = ith; slab < packed.n_slab(); slab += nth) {
                packed.pack_slab(slab, [&](int row, float* values) { widen_row(matrix, row, values); });
            }
        });
    }
    state.counters["Gvalues/s"] =
        benchmark::Counter(1e-9 * n * k * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

// Arguments: bits of the result, values, what (0: RMS norm, 1: silu(gate)·up).
void bench_row_operation(benchmark::State& state) {
    const GemmType type = type_of(state.range(0));
    const int n = static_cast<int>(state.range(1));
    const std::vector<float> a = ramp(static_cast<size_t>(n)), b = ramp(static_cast<size_t>(n));
    std::vector<float> y(static_cast<size_t>(n));
    for (auto _ : state) {
        if (state.range(2) == 0) {
            normalize_row(a.data(), n, b.data(), 1e-5F, type, y.data(), n);
        } else {
            gate_row(a.data(), b.data(), n, type, y.data(), n);
        }
        benchmark::DoNotOptimize(y.data());
    }
    // the share is that of reading memory: above 1, as rows are in the caches, is what does not hold products up
    report_read(state, 2 * static_cast<size_t>(n) * sizeof(float), 1);
}

void linear_shapes(benchmark::internal::Benchmark* b) {
    b->ArgNames({"bits", "rows", "n", "k", "threads"});
    for (const int nth : {1, 2}) {
        b->Args({16, 512, 576, 576, nth});
        b->Args({16, 512, 192, 576, nth});
        b->Args({16, 512, 1536, 576, nth});
        b->Args({16, 512, 576, 1536, nth});
        b->Args({16, 512, 14336, 4096, nth});
        b->Args({32, 512, 1536, 576, nth});
        for (const int bits : {8, 16}) {  // both where a model's shapes are compared
            b->Args({bits, 512, 896, 896, nth});
            b->Args({bits, 512, 4864, 896, nth});
        }
        b->Args({8, 512, 576, 576, nth});
        b->Args({8, 512, 1536, 576, nth});
        b->Args({8, 512, 14336, 4096, nth});
    }
}

void prefill_shapes(benchmark::internal::Benchmark* b) {
    b->ArgNames({"bits", "rows", "dim", "heads", "kv_heads", "threads"});
    for (const int nth : {1, 2}) {
        for (const int rows : {1024, 4096, 8192}) {
            b->Args({16, rows, 64, 9, 3, nth});
            b->Args({16, rows, 128, 32, 8, nth});
        }
        b->Args({32, 1024, 64, 9, 3, nth});
    }
}

void cache_shapes(benchmark::internal::Benchmark* b) {
    b->ArgNames({"type", "entries", "dim", "heads", "kv_heads", "threads", "ragged"});
    for (const int nth : {1, 2}) {
        for (const KvType type : {KvType::f16, KvType::q8_0, KvType::q4_0}) {
            b->Args({static_cast<int64_t>(type), 8192, 64, 9, 3, nth, 0});
            b->Args({static_cast<int64_t>(type), 8192, 128, 32, 8, nth, 0});
            b->Args({static_cast<int64_t>(type), 800, 64, 9, 3, nth, 0});
        }
        b->Args({static_cast<int64_t>(KvType::f16), 8192, 64, 9, 3, nth, 1});
        b->Args({static_cast<int64_t>(KvType::f16), 800, 64, 9, 9, nth, 1});  // cached for each query head
    }
}

void score_shapes(benchmark::internal::Benchmark* b) {
    b->ArgNames({"rows", "dim", "heads", "kv_heads", "queries", "threads"});
    for (const int nth : {1, 2}) {
        b->Args({4096, 64, 9, 3, 8, nth});
        b->Args({8192, 128, 32, 8, 8, nth});
        b->Args({8000, 64, 9, 3, 1600, nth});  // a fifth of the rows, as PyramidInfer
        b->Args({8000, 64, 9, 3, 8000, nth});  // all of them, as H2O
    }
}

void mean_shapes(benchmark::internal::Benchmark* b) {
    b->ArgNames({"rows", "dim", "heads", "kv_heads", "queries", "threads"});
    for (const int nth : {1, 2}) {
        b->Args({8000, 64, 9, 3, 1600, nth});
    }
}

BENCHMARK(bench_linear)->Name("linear")->Apply(linear_shapes)->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK(bench_layer_end)
    ->Name("layer_end")
    ->ArgNames({"bits", "rows", "n", "n_ff", "threads"})
    ->ArgsProduct({{8, 16}, {512}, {576}, {1536}, {1, 2}})
    ->ArgsProduct({{8, 16}, {512}, {896}, {4864}, {1, 2}})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(bench_quantized_linear)
    ->Name("quantized_linear")
    ->ArgNames({"type", "rows", "n", "k", "threads"})
    ->ArgsProduct({{int(BlockType::q4_0), int(BlockType::q4_1), int(BlockType::q5_0), int(BlockType::q8_0),
                    int(BlockType::q4_k), int(BlockType::q5_k), int(BlockType::q6_k)},
                   {1, 8},
                   {896},
                   {4864},
                   {1, 2}})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(bench_row_operation)
    ->Name("row_operation")
    ->ArgNames({"bits", "n", "what"})
    ->ArgsProduct({{16, 32}, {1536}, {0, 1}})
    ->Unit(benchmark::kNanosecond);
BENCHMARK(bench_expand_weights)
    ->Name("expand_weights")
    ->ArgNames({"type", "bits", "n", "k", "threads"})
    ->ArgsProduct({{int(BlockType::q4_0), int(BlockType::q4_1), int(BlockType::q5_0), int(BlockType::q8_0),
                    int(BlockType::q4_k), int(BlockType::q5_k), int(BlockType::q6_k)},
                   {16},
                   {1536},
                   {768},
                   {1, 2}})
    ->Args({int(BlockType::q4_1), 8, 1536, 576, 1})
    ->Args({int(BlockType::q4_k), 16, 14336, 4096, 2})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(bench_prefill)
    ->Name("prefill_attention")
    ->Apply(prefill_shapes)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(bench_cache)->Name("cache_attention")->Apply(cache_shapes)->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK(bench_cache_weights)
    ->Name("cache_attention_weights")
    ->Apply(cache_shapes)
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(bench_key_scores)->Name("key_scores")->Apply(score_shapes)->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK(bench_mean_attention)
    ->Name("mean_attention")
    ->Apply(mean_shapes)
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

[[maybe_unused]] const bool context_added = [] {
    benchmark::AddCustomContext("products", gemm_description());
    return true;
}();

}  // namespace
