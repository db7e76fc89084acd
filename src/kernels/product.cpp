// Who computes a product: AMX where there is any, oneDNN elsewhere.
#include "kernels/product.h"

#include "kernels/int8_product.h"
#include "kernels/simd.h"

namespace fastkv::kernels {

namespace {

bool by_amx(GemmType type) { return type == GemmType::bf16 && amx::available(); }

}  // namespace

bool gemm_available(GemmType type) {
    if (type == GemmType::int8) return int8::available();
    return by_amx(type) || onednn::available(type);
}

std::string gemm_description() {
    const std::string library = onednn::description();
    if (!amx::available()) return library.empty() ? "none" : library;
    return library.empty() ? "AMX" : "AMX, " + library;
}

ProductSizes product_sizes(GemmType type) {
    // Measured. AMX: 32 rows of linear_k, and a strip's scores, stay in the first-level cache, a block's weights in the
    // second. oneDNN: from 64 rows on products run at full speed, and at 128 the rows, their results and the weights of
    // one product still lie in a second-level cache together.
    if (by_amx(type) || type == GemmType::int8)
        return {.linear_rows = 256,
                .linear_k = type == GemmType::int8 ? 1024 : 640,
                .attention_rows = 384,
                .strip_rows = 32,
                .run_keys = 256,
                .into_rows = true,
                .row_gap = type == GemmType::int8 ? 64 : 32};
    return {.linear_rows = 128,
            .linear_k = type == GemmType::bf16 ? 1024 : 512,
            .attention_rows = 192,
            .strip_rows = 192,
            .run_keys = 512,
            .into_rows = false,
            .row_gap = 0};
}

ProductScope::ProductScope() {
    if (amx::available()) tiles_.emplace();
}
ProductScope::~ProductScope() = default;

size_t packed_operand_bytes(GemmType type, int n, int k) {
    if (by_amx(type)) return static_cast<size_t>(n) * static_cast<size_t>(k) * gemm_type_size(type);
    return onednn::packed_operand_bytes(type, n, k);
}

void pack_operand(GemmType type, int n, int k, OperandOrder order, const void* source, size_t row_stride,
                  void* packed) {
    if (by_amx(type)) return amx::pack_operand(n, k, order, source, row_stride, packed);
    onednn::pack_operand(type, n, k, order, source, row_stride, packed);
}

void multiply(const ProductShape& shape, const void* a, const void* packed_b, float* c, FetchAhead& ahead) {
    if (by_amx(shape.type)) return amx::multiply(shape, a, packed_b, c, ahead);
    onednn::multiply(shape, a, packed_b, c);
}

void multiply(const ProductShape& shape, const void* a, const void* packed_b, float* c) {
    FetchAhead nothing;
    multiply(shape, a, packed_b, c, nothing);
}

}  // namespace fastkv::kernels
