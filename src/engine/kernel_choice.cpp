#include "engine/kernel_choice.h"

#include <algorithm>
#include <string>

#include "fastkv/error.h"

namespace fastkv {

KernelChoice choose_kernels(const Device& device, Compute compute) {
    KernelChoice choice;
    choice.gemm = compute == Compute::f32 ? kernels::GemmType::f32 : kernels::GemmType::bf16;
    choice.linear = compute == Compute::int8 ? kernels::GemmType::int8 : choice.gemm;
    // `automatic` has been resolved: where it is left, nothing here multiplies bf16
    const bool packed = device.own_kernels && compute != Compute::automatic && kernels::gemm_available(choice.gemm);
    choice.packed_linear = packed;
    choice.prefill_attention = packed;
    choice.cache_kernels = device.own_kernels;
    return choice;
}

int min_rows_to_expand(const KernelChoice& choice) { return kernels::min_rows_to_pack(choice.linear); }

int prefill_chunk_rows(const Device& device) {
    if (!device.is_cpu) return 2048;
    return std::min(512 * device.n_threads, 4096);
}

int block_chunk_rows(const Device& device, const KernelChoice& choice) {
    // every chunk ends with pieces that are small, and slower for it
    return (choice.packed_linear && choice.prefill_attention ? 2 : 1) * prefill_chunk_rows(device);
}

ggml_type compute_type(Compute compute) { return compute == Compute::f32 ? GGML_TYPE_F32 : GGML_TYPE_F16; }

namespace {

/// A resolved type, as ggml has it.
ggml_type ggml_type_of(CacheType type) {
    switch (type) {
        case CacheType::f32: return GGML_TYPE_F32;
        case CacheType::q8_0: return GGML_TYPE_Q8_0;
        case CacheType::q5_0: return GGML_TYPE_Q5_0;
        case CacheType::q4_0: return GGML_TYPE_Q4_0;
        default: return GGML_TYPE_F16;
    }
}

bool fit_blocks(const HyperParams& hparams) { return hparams.head_dim % kernels::kv_block_values == 0; }

CacheTypes resolved_types(CacheTypes given, const MethodEntry& method, const ModelParams& model,
                          const HyperParams& hparams) {
    CacheTypes types{CacheType::f16, CacheType::f16};
    // what blocks cost on other devices has not been measured
    const bool on_cpu = model.n_gpu_layers == 0;
    const bool small = method.counts_on_blocks && method.counts_on_blocks(hparams) && fit_blocks(hparams) && on_cpu;
    if (small) types = {CacheType::q8_0, CacheType::q4_0};
    if (model.compute == Compute::f32) types = {CacheType::f32, CacheType::f32};
    if (given.k != CacheType::automatic) types.k = given.k;
    if (given.v != CacheType::automatic) types.v = given.v;
    return types;
}

ggml_type stored_type(CacheType type, const char* flag, const HyperParams& hparams) {
    const ggml_type stored = ggml_type_of(type);
    if (hparams.head_dim % int(ggml_blck_size(stored)) != 0) {
        refuse(flag + (" " + std::string(ggml_type_name(stored))) + " stores 32 values at a time: heads of " +
               std::to_string(hparams.head_dim) + " do not divide; use f16");
    }
    return stored;
}

}  // namespace

CacheTypes resolve_cache_types(CacheTypes given, const MethodParams& method, const Model& model) {
    return resolved_types(given, find_method(method.method), model.params(), model.hparams());
}

KvTypes cache_types(const SessionParams& session, const MethodEntry& method, const ModelParams& model,
                    const HyperParams& hparams) {
    const CacheTypes types = resolved_types({session.cache_type_k, session.cache_type_v}, method, model, hparams);
    return {stored_type(types.k, "-ctk", hparams), stored_type(types.v, "-ctv", hparams)};
}

}  // namespace fastkv
