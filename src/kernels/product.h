// One dense product on the calling thread: what the linear layers and the attention are made of, by AMX tiles, vectors
// or oneDNN.
#pragma once

#include <cstddef>
#include <optional>

#include "kernels/amx_product.h"
#include "kernels/onednn_product.h"
#include "kernels/product_shape.h"

namespace fastkv::kernels {

/// The sizes at which products of a type are at their fastest on this processor.
struct ProductSizes {
    int m_step;          ///< rows of A and C are a multiple of
    int linear_rows;     ///< rows of x per product of a linear layer
    int linear_k;        ///< values of k per product; longer rows are summed up product by product
    int attention_rows;  ///< query rows that pass over a run of keys together
    int strip_rows;      ///< of these, rows whose scores are multiplied, softmaxed and multiplied again at a time
    int run_keys;        ///< keys per product, a multiple of scale_keys
    int scale_keys;      ///< keys that share a scale of values, so that runs begin at multiples of it; 0: any
    bool into_rows;      ///< results may have gaps between rows; without it they go by way of memory that has none
    int row_gap;         ///< values between rows of x: with AMX rows a power of two apart fall on the same cache sets
};
ProductSizes product_sizes(GemmType type);

/// What products need of the calling thread, for as long as one of these lives there: tiles that are configured, a
/// oneDNN that does not start threads of its own. Every function below needs one. One within another does nothing.
class ProductScope {
  public:
    ProductScope();
    ~ProductScope();
    ProductScope(const ProductScope&) = delete;
    ProductScope& operator=(const ProductScope&) = delete;

  private:
    std::optional<amx::Tiles> tiles_;
    std::optional<onednn::SingleThread> single_;
};

/// Bytes of a packed operand B [k][n].
size_t packed_operand_bytes(GemmType type, int n, int k);

/// Packs B [k][n] from values of `type` whose rows are `row_stride` values apart.
void pack_operand(GemmType type, int n, int k, OperandOrder order, const void* source, size_t row_stride, void* packed);

/// Makes A [m][k], rows `stride` values apart, ready in place, which every A has to be once before products take all or
/// some of its values of k: those of float16 want that. `scales` [m] are filled then, and belong to the rows.
ReadyRows ready_rows(GemmType type, int m, int k, void* rows, size_t stride, Magnitude magnitude, float* scales);

/// The same for a packed B [k][n]: how many scales it takes (none where there is nothing to do), and the call, for all
/// of k that products will take.
int column_scales(GemmType type, int n, int k);
void ready_columns(GemmType type, int n, int k, void* packed, float* scales);

/// Whether scores of queries and keys of k values are multiplied into float16 (half_product.h).
bool has_half_scores(GemmType type, int k);

/// C (+)= A·B. `ahead` is moved on by what AMX brings along; the others leave it alone.
void multiply(const ProductShape& shape, const ReadyRows& a, const PackedColumns& b, float* c, FetchAhead& ahead);
void multiply(const ProductShape& shape, const ReadyRows& a, const PackedColumns& b, float* c);

}  // namespace fastkv::kernels
