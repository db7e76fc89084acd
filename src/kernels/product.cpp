// Who computes a product: AMX where there is any, elsewhere oneDNN or vectors.
#include "kernels/product.h"

#include "kernels/half_product.h"
#include "kernels/int8_product.h"
#include "kernels/panels.h"
#include "kernels/simd.h"
#include "kernels/vector_product.h"

namespace fastkv::kernels {

namespace {

/// Whether vectors multiply pairs of bf16 faster than float32. On Intel's they do not: of an Emerald Rapids' cores each
/// does 84 GFLOP/s so, and 174 in float32.
bool has_fast_bf16() {
#if defined(__x86_64__)
    return native_bf16 && !__builtin_cpu_is("intel");
#else
    return false;
#endif
}

enum class Engine { amx, half, vectors, onednn };

/// oneDNN, which throws where it is not there, if nothing else multiplies `type`.
Engine engine_of(GemmType type) {
    if (type != GemmType::bf16) return Engine::onednn;
    if (amx::available()) return Engine::amx;
    if (has_fast_bf16() && onednn::available(type)) return Engine::onednn;
    if (half::available()) return Engine::half;
    return vectors::available() ? Engine::vectors : Engine::onednn;
}

}  // namespace

bool gemm_available(GemmType type) {
    if (type == GemmType::int8) return int8::available();
    return engine_of(type) != Engine::onednn || onednn::available(type);
}

double gemm_rounding(GemmType type) { return engine_of(type) == Engine::half ? half::rounding : 2e-6; }

int min_rows_to_pack(GemmType type) {
    // Measured on SmolLM2 Q4_1 and a 0.5B Q4_K_M model, two cores of Sapphire and Emerald Rapids: 27 rows take 25 and
    // 88 ms by the quantised weights, 28 packed for AMX 31 and 106; they meet at 33. Without AMX 64 rows take 73 and
    // 250 ms quantised, 75 to 115 and 260 to 400 packed as bf16; as 8-bit integers the two meet at 40. Float32 weights
    // are there already.
    if (type == GemmType::f32) return 16;
    return type == GemmType::int8 || engine_of(type) == Engine::amx ? 33 : 65;
}

std::string gemm_description() {
    const Engine engine = engine_of(GemmType::bf16);
    const std::string own = engine == Engine::amx       ? "AMX"
                            : engine == Engine::half    ? "AVX512-FP16"
                            : engine == Engine::vectors ? "vectors"
                                                        : "";
    const std::string library = onednn::description();
    if (own.empty()) return library.empty() ? "none" : library;
    return library.empty() ? own : own + ", " + library;
}

ProductSizes product_sizes(GemmType type) {
    // Measured. AMX: 32 rows of linear_k, and a strip's scores, stay in the first-level cache, a block's weights in the
    // second. Panels are made fit once for all rows of a product: the more, the better. oneDNN: from 64 rows on
    // products run at full speed, and at 128 the rows, their results and the weights of one product still lie in a
    // second-level cache together.
    const Engine engine = engine_of(type);
    if (engine == Engine::half || engine == Engine::vectors)
        return {.m_step = panels::block_rows,
                .linear_rows = 256,
                .linear_k = 1 << 16,
                .attention_rows = 384,
                .strip_rows = 384,
                .run_keys = engine == Engine::half ? 2 * half::panel_depth : 256,
                .scale_keys = engine == Engine::half ? half::panel_depth : 0,
                .into_rows = true,
                .row_gap = 32};
    if (engine == Engine::amx || type == GemmType::int8)
        return {.m_step = product_m_step,
                .linear_rows = 256,
                .linear_k = type == GemmType::int8 ? 1024 : 640,
                .attention_rows = 384,
                .strip_rows = 32,
                .run_keys = 256,
                .scale_keys = 0,
                .into_rows = true,
                .row_gap = type == GemmType::int8 ? 64 : 32};
    return {.m_step = product_m_step,
            .linear_rows = 128,
            .linear_k = type == GemmType::bf16 ? 1024 : 512,
            .attention_rows = 192,
            .strip_rows = 192,
            .run_keys = 512,
            .scale_keys = 0,
            .into_rows = false,
            .row_gap = 0};
}

namespace {
thread_local int open_scopes = 0;
}

ProductScope::ProductScope() {
    if (open_scopes++ > 0) return;
    single_.emplace();
    if (amx::available()) tiles_.emplace();
}
ProductScope::~ProductScope() { --open_scopes; }

size_t packed_operand_bytes(GemmType type, int n, int k) {
    if (engine_of(type) == Engine::onednn) return onednn::packed_operand_bytes(type, n, k);
    return static_cast<size_t>(n) * static_cast<size_t>(k) * gemm_type_size(type);
}

void pack_operand(GemmType type, int n, int k, OperandOrder order, const void* source, size_t row_stride,
                  void* packed) {
    switch (engine_of(type)) {
        case Engine::amx: return amx::pack_operand(n, k, order, source, row_stride, packed);
        case Engine::half:
        case Engine::vectors: return panels::pack_operand(n, k, order, source, row_stride, packed);
        case Engine::onednn: return onednn::pack_operand(type, n, k, order, source, row_stride, packed);
    }
}

ReadyRows ready_rows(GemmType type, int m, int k, void* rows, size_t stride, Magnitude magnitude, float* scales) {
    if (engine_of(type) == Engine::half) {
        half::ready_rows(m, k, static_cast<uint16_t*>(rows), stride, magnitude, scales);
    }
    return {rows, scales};
}

int column_scales(GemmType type, int n, int k) {
    return engine_of(type) == Engine::half ? half::column_scales(n, k) : 0;
}

void ready_columns(GemmType type, int n, int k, void* packed, float* scales) {
    if (engine_of(type) == Engine::half) half::ready_columns(n, k, static_cast<uint16_t*>(packed), scales);
}

bool has_half_scores(GemmType type, int k) { return engine_of(type) == Engine::half && half::has_scores(k); }

void multiply(const ProductShape& shape, const ReadyRows& a, const PackedColumns& b, float* c, FetchAhead& ahead) {
    switch (engine_of(shape.type)) {
        case Engine::amx: return amx::multiply(shape, a.values, b.values, c, ahead);
        case Engine::half: return half::multiply(shape, a, b, c, ahead);
        case Engine::vectors: return vectors::multiply(shape, a, b, c, ahead);
        case Engine::onednn: return onednn::multiply(shape, a.values, b.values, c);
    }
}

void multiply(const ProductShape& shape, const ReadyRows& a, const PackedColumns& b, float* c) {
    FetchAhead nothing;
    multiply(shape, a, b, c, nothing);
}

}  // namespace fastkv::kernels
