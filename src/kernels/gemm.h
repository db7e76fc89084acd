// Dense products on packed weights: the linear layers of prefill and the blocks of its attention.
// Built on oneDNN; without it `gemm_available()` is false and nothing else here may be called.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace fastkv::kernels {

/// The type in which products read their operands. Results are float32.
enum class GemmType { f32, bf16 };

inline size_t gemm_type_size(GemmType type) { return type == GemmType::f32 ? 4 : 2; }

/// Whether this build and this processor multiply `type` natively and fast (bf16: AVX512-BF16 or AMX).
bool gemm_available(GemmType type);

/// "oneDNN 2.6.3 (avx512_core_bf16)", or "none".
std::string gemm_description();

/// A weight matrix W [n][k] packed for y = x·Wᵀ, cut into slabs of `slab_rows` rows of W so that threads can
/// pack and multiply slabs independently. The memory is the caller's and can be reused for the next layer.
class PackedWeights {
  public:
    /// Rows of W per slab; the last slab may be shorter.
    static constexpr int slab_rows = 256;

    PackedWeights(GemmType type, int n, int k);
    ~PackedWeights();
    PackedWeights(PackedWeights&&) noexcept;
    PackedWeights& operator=(PackedWeights&&) noexcept;

    GemmType type() const;
    int n() const;
    int k() const;
    int n_slab() const;
    size_t bytes() const;  ///< allocated

    /// Packs slab `slab` from its rows of W: rows [min(slab_rows, n - slab·slab_rows)][k] float32. Slabs may be packed
    /// by different threads at the same time.
    void pack_slab(int slab, const float* rows);

  private:
    friend void linear(const PackedWeights&, const float*, size_t, float*, size_t, int, int, int);
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// y[m][n] = x[m][k]·Wᵀ: this thread's share of it, thread `ith` of `nth`, all of which call with the same
/// arguments. Strides count floats between rows. The grid of row blocks and slabs is shared out evenly; x is
/// rounded to the weights' type block by block. Safe from any threading library: every product runs on the
/// calling thread alone.
void linear(const PackedWeights& w, const float* x, size_t x_stride, float* y, size_t y_stride, int m, int ith,
            int nth);

}  // namespace fastkv::kernels
