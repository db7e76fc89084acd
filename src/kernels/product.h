// One dense product on the calling thread: what the linear layers and the attention are made of. This is the only
// place that knows oneDNN.
#pragma once

#include <cstddef>

#include "kernels/gemm.h"

namespace fastkv::kernels {

/// Multiples that callers pad their operands to, so that no kernel ever sees a ragged edge: one primitive serves
/// many prompt lengths, and packed operands have no padding of oneDNN's own (which it would clear on each use).
constexpr int product_m_step = 16;
constexpr int product_n_step = 64;
constexpr int product_k_step = 32;

/// C[m][n] = A[m][k]·B[k][n], or C += A·B. All dense; A and B of `type`, C float32; B packed by pack_operand().
struct ProductShape {
    GemmType type = GemmType::f32;
    int m = 0;
    int n = 0;
    int k = 0;
    bool accumulate = false;
};

/// How the source of a packed operand lies in memory.
enum class OperandOrder {
    transposed,  ///< [n] rows of k values: a weight matrix, or keys
    straight,    ///< [k] rows of n values: values
};

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

/// Bytes of a packed operand B [k][n].
size_t packed_operand_bytes(GemmType type, int n, int k);

/// Packs B [k][n] from values of `type` whose rows are `row_stride` values apart.
void pack_operand(GemmType type, int n, int k, OperandOrder order, const void* source, size_t row_stride, void* packed);

void multiply(const ProductShape& shape, const void* a, const void* packed_b, float* c);

}  // namespace fastkv::kernels
