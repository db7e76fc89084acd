// The linear layers of prefill: dense products on packed weights. Where nothing computes them, `gemm_available()` is
// false and nothing else here may be called.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "kernels/team.h"

namespace fastkv::kernels {

/// The type in which products read their operands. Results are float32. int8 (with scales, see PackedWeights) is for
/// linear layers only.
enum class GemmType { f32, bf16, int8 };

inline size_t gemm_type_size(GemmType type) { return type == GemmType::f32 ? 4 : type == GemmType::bf16 ? 2 : 1; }

/// Whether this build and this processor multiply `type` fast (bf16: by AMX, AVX-512, AVX2 or NEON; int8: AVX512-VNNI
/// or AMX; float32: by oneDNN).
bool gemm_available(GemmType type);

/// How far a sum of products of random numbers of `type` (float32 or bf16) may be from the exact one, as a share of the
/// sum of their magnitudes: what summing them up in float32 costs, or on some processors in float16 (half_product.h).
double gemm_rounding(GemmType type);

/// From this many rows on they are multiplied faster by packed weights, packing included, than by quantised ones
/// (quantized_linear.h).
int min_rows_to_pack(GemmType type);

/// Who computes products of bf16, and the library behind it: "AMX, oneDNN 2.6.3 (avx512_core_amx)", or "none".
std::string gemm_description();

/// A weight matrix W [n][k] packed for y = x·Wᵀ, cut into slabs of `slab_rows` rows of W so that threads can
/// pack and multiply slabs independently. The memory is the caller's and can be reused for the next layer.
/// With int8, rows of W and of x are rotated and rounded (int8_product.h); each has a scale for all of its k, or for
/// every 1024 values where k is larger, or for every slab_rows where x is a slab of hidden values after the other.
class PackedWeights {
  public:
    /// Rows of W per slab; the last slab may be shorter.
    static constexpr int slab_rows = 256;

    /// `reads_hidden`: this is LayerEnd::down.
    PackedWeights(GemmType type, int n, int k, bool reads_hidden = false);
    ~PackedWeights();
    PackedWeights(PackedWeights&&) noexcept;
    PackedWeights& operator=(PackedWeights&&) noexcept;

    GemmType type() const;
    int n() const;
    int k() const;
    bool reads_hidden() const;
    int n_slab() const;
    size_t bytes() const;  ///< allocated

    /// Writes row `row` of W: values [k].
    using ReadRow = std::function<void(int row, float* values)>;

    /// Packs slab `slab` of W, whose rows are read one by one. Slabs may be packed by different threads at the same
    /// time.
    void pack_slab(int slab, const ReadRow& read_row);

    struct Impl;
    const Impl& impl() const { return *impl_; }

  private:
    std::unique_ptr<Impl> impl_;
};

/// Rows of float32, `stride` values apart.
struct ConstRows {
    const float* data = nullptr;
    size_t stride = 0;
};
struct Rows {
    float* data = nullptr;
    size_t stride = 0;
};

/// What happens to a row before it is multiplied: x / sqrt(mean(x²) + eps) · weight. Nothing without a weight.
struct RmsNorm {
    const float* weight = nullptr;  ///< [k]
    float eps = 0;
};

/// One of the linear layers that read the same rows: y[m][n] = bias + x[m][k]·Wᵀ.
struct LinearOutput {
    const PackedWeights* weights = nullptr;
    const float* bias = nullptr;  ///< [n], or none
    Rows y;                       ///< without data, rows are handed to RowsDone only
};

/// Called by the thread that has computed rows [first, first + n), while they are in its caches: y[i] is where those of
/// output i begin.
using RowsDone = std::function<void(int first, int n, std::span<const Rows> y)>;

/// Linear layers of the rows x[m][k]: the pieces that this thread of the team takes. x is normalised and rounded to the
/// weights' type once for all outputs of a piece. Safe from any threading library: every product runs on the calling
/// thread alone.
void linear(std::span<const LinearOutput> outputs, const RmsNorm& norm, ConstRows x, int m, Team& team,
            const RowsDone& done = {});

/// The same for one output without a bias.
void linear(const PackedWeights& w, const float* x, size_t x_stride, float* y, size_t y_stride, int m, Team& team);

/// What a layer does to the rows of its residual stream after the attention: x += output·a, then
/// x += down·(silu(gate·x̂) · up·x̂) with x̂ = norm(x).
struct LayerEnd {
    const PackedWeights* output = nullptr;  ///< [n][k_a]
    ConstRows a;                            ///< [m][k_a]: what the attention found
    RmsNorm norm;
    const PackedWeights* gate = nullptr;  ///< [n_ff][n]
    const PackedWeights* up = nullptr;    ///< [n_ff][n]
    const PackedWeights* down = nullptr;  ///< [n][n_ff], packed as one that reads hidden values
};

/// The rows of x[m][n] that this thread of the team takes, from the first product to the last without leaving its
/// caches.
void end_layer(const LayerEnd& layer, Rows x, int m, Team& team);

/// The same for a few rows by the calling thread alone.
void end_layer(const LayerEnd& layer, Rows x, int m);

}  // namespace fastkv::kernels
