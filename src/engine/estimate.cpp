// What a prompt will cost, by the same plans that the prefill follows.
#include <algorithm>
#include <numeric>

#include "engine/cache.h"
#include "engine/head.h"
#include "engine/kernel_choice.h"
#include "fastkv/session.h"
#include "methods/schedule.h"
#include "model/model_impl.h"

namespace fastkv {

namespace {

/// Bytes of a layer's matrices, expanded.
uint64_t expanded_bytes(const HyperParams& hp, const KernelChoice& choice) {
    if (!choice.packed_linear) return 0;
    const uint64_t d = uint64_t(hp.n_embd);
    const uint64_t q = uint64_t(hp.n_head) * uint64_t(hp.head_dim);
    const uint64_t kv = uint64_t(hp.n_head_kv) * uint64_t(hp.head_dim);
    return (2 * d * q + 2 * d * kv + 3 * d * uint64_t(hp.n_ff)) * kernels::gemm_type_size(choice.linear);
}

/// Bytes of the intermediate results of one chunk of rows; ggml reuses what is no longer needed, about half.
uint64_t chunk_bytes(const HyperParams& hp, const Device& device, int n_prompt) {
    const uint64_t rows = uint64_t(std::min(prefill_chunk_rows(device), n_prompt));
    const uint64_t widest = uint64_t(std::max({hp.n_ff * 3, hp.n_embd * 4, hp.n_head * hp.head_dim * 4}));
    const uint64_t mask = device.own_kernels ? 0 : rows * uint64_t(n_prompt) * 2;
    return rows * (widest + uint64_t(hp.n_embd) * 2) * sizeof(float) + mask;
}

/// Bytes that a prompt will take for expanded matrices: those of one layer, or those of all that are not there yet.
uint64_t expanded_bytes(const Model::Impl& model, const KernelChoice& choice) {
    const uint64_t layer = expanded_bytes(model.hparams, choice);
    if (!model.expanded) return layer;
    const uint64_t all = layer * uint64_t(model.hparams.n_layer), there = model.expanded->bytes();
    return all > there ? all - there : 0;
}

}  // namespace

namespace {

/// Floating-point operations of one layer, as Prefill computes it: keys and values of all rows; queries, attention and
/// MLP of those that live on; what scoring takes. Norms, rotations and softmax are left out, they are of lower order.
double layer_flops(const HyperParams& hp, const PlannedLayer& layer, bool all_rows) {
    const double n = layer.at.n_rows, d = hp.n_embd, q = double(hp.n_head) * hp.head_dim;
    const double kv = double(hp.n_head_kv) * hp.head_dim;
    const bool is_last = layer.at.layer + 1 == hp.n_layer && !all_rows;
    const bool restarts = layer.plan.propagate && layer.plan.propagate->restart;
    const double block = restarts ? 0 : is_last ? 1 : layer.passed;
    const double seen = block > 1 ? n / 2 : n;  // keys that a row sees on average
    double flops = n * 2 * d * kv * (restarts ? 1 : 2);
    flops += block * (4 * d * q + 6 * d * hp.n_ff) + block * seen * 4 * q;
    if (const auto& score = layer.plan.score) {
        const double n_query = score->kind == ScoreKind::expected ? n : score->n_query;
        const double looks = score->kind == ScoreKind::expected ? 2.0 * hp.head_dim : n_query == n ? n : 2 * n;
        flops += (n_query == n ? 0 : n_query * 2 * d * q) + n_query * looks * q;
    }
    return flops;
}

}  // namespace

CostEstimate estimate(const Model& model, const MethodParams& method_params, int n_prompt,
                      const SessionParams& session) {
    const Model::Impl& impl = model.impl();
    const HyperParams& hp = impl.hparams;
    const MethodEntry& method = find_method(method_params.method);
    const MethodParams params = method.resolve(method_params, hp);
    const KvTypes types = cache_types(session, method, impl.params, hp);

    CostEstimate cost;
    int window = 0;
    bool compresses = false, all_compress = true;
    double flops = 0;
    const auto layers = plan_prompt(method, params, hp.n_layer, n_prompt);
    for (const PlannedLayer& layer : layers) {
        flops += layer_flops(hp, layer, session.needs_all_rows());
        compresses = compresses || layer.plan.keep;
        all_compress = all_compress && layer.plan.keep;
        if (layer.plan.score) window = std::max(window, std::min(layer.plan.score->n_query, 2048));
        if (layer.at.pass != layers.back().at.pass) continue;
        const Device& device = *impl.weights.layers[size_t(layer.at.layer)].device;
        const int64_t capacity = cache_capacity(device, layer.cached, session.n_predict);
        const int n_head = layer.cached_heads(hp.n_head, hp.n_head_kv);
        cost.kv_cache_bytes += cache_bytes(types, hp.head_dim, n_head, capacity * n_head);
    }
    double full_flops = 0;
    for (int layer = 0; layer < hp.n_layer; ++layer) {
        const PlannedLayer full{.at = {.layer = layer, .n_rows = n_prompt}, .plan = {}, .passed = n_prompt};
        full_flops += layer_flops(hp, full, session.needs_all_rows());
    }
    cost.prefill_share = flops / full_flops;

    const Device& device = *impl.weights.layers[0].device;
    const KernelChoice choice = choose_kernels(device, impl.params.compute);
    const uint64_t n = uint64_t(n_prompt);
    const ggml_type type = compute_type(impl.params.compute);
    const uint64_t layer_kv = cache_bytes({type, type}, hp.head_dim, hp.n_head_kv, int64_t{hp.n_head_kv} * n_prompt);
    const uint64_t stream = n * uint64_t(hp.n_embd) * sizeof(float);
    const bool stored_as_read = types == KvTypes{type, type};  // then layers that keep all are read from the cache
    uint64_t packed_kv = 0;
    if (choice.prefill_attention) {
        const kernels::PackedKv packed(choice.gemm, hp.head_dim, hp.n_head_kv, n_prompt);
        packed_kv = all_compress || !stored_as_read
                        ? packed.bytes_beside(kernel_type(type))
                        : layer_kv / ggml_type_size(type) * kernels::gemm_type_size(choice.gemm);
    }
    // per thread scores of a head group over the window, in pieces of 32 MiB, and the sums of all heads twice
    const uint64_t score_rows = std::min(n * sizeof(float) * uint64_t(window * hp.n_group()), uint64_t{32} << 20);
    const uint64_t scores = score_rows * uint64_t(device.n_threads) + n * sizeof(float) * uint64_t(2 * hp.n_head);
    const uint64_t row_logits = uint64_t(hp.n_vocab) * sizeof(float);
    // a chunk's stand in the graph, and are read from it
    const uint64_t some_logits =
        session.needs_all_rows() ? 2 * std::min(n, uint64_t{Head::chunk_rows}) * row_logits : 0;
    const uint64_t all_logits = some_logits + (session.all_logits ? n * row_logits : 0);
    const uint64_t record =
        session.record_attention ? n * sizeof(float) * uint64_t(hp.n_layer) * uint64_t(hp.n_head) : 0;
    const uint64_t scratch = compresses || !stored_as_read ? layer_kv : 0;
    cost.working_bytes = stream + scratch + packed_kv + scores + expanded_bytes(impl, choice) +
                         chunk_bytes(hp, device, n_prompt) + all_logits + record;
    return cost;
}

}  // namespace fastkv
