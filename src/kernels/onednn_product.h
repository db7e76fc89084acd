// Products by oneDNN. This is the only place that knows it.
#pragma once

#include <string>

#include "kernels/product_shape.h"

namespace fastkv::kernels::onednn {

/// Whether oneDNN is there and multiplies `type` natively and fast (bf16: AVX512-BF16 or AMX).
bool available(GemmType type);

/// "oneDNN 2.6.3 (avx512_core_bf16)", or "" without it.
std::string description();

/// oneDNN works on the calling thread alone while one of these lives there. Every function below needs one: a
/// primitive made with more threads in mind would share its work out among threads that are busy elsewhere.
class SingleThread {
  public:
    SingleThread();
    ~SingleThread();
    SingleThread(const SingleThread&) = delete;
    SingleThread& operator=(const SingleThread&) = delete;

  private:
    int n_thread_before_ = 0;
};

/// As the functions of product.h.
size_t packed_operand_bytes(GemmType type, int n, int k);
void pack_operand(GemmType type, int n, int k, OperandOrder order, const void* source, size_t row_stride, void* packed);
void multiply(const ProductShape& shape, const void* a, const void* packed_b, float* c);

}  // namespace fastkv::kernels::onednn
