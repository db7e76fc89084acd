// A matrix as the file stores it, and its rows as numbers.
#pragma once

namespace fastkv::kernels {

/// Blocks of weights as ggml lays them out: of 32, and of 256 (the K-quants).
enum class BlockType { q4_0, q4_1, q5_0, q8_0, q4_k, q5_k, q6_k };

/// Weights of a block.
constexpr int block_size(BlockType type) { return type < BlockType::q4_k ? 32 : 256; }

/// A matrix W [n][k] of blocks, k a multiple of 64 and of the block's size; rows follow each other without gaps.
struct QuantizedMatrix {
    BlockType type = BlockType::q8_0;
    const void* data = nullptr;
    int n = 0;
    int k = 0;
};

/// Whether this processor has the instructions that everything on quantised matrices is written for (AVX-512 VNNI).
bool quantized_available();

/// Row `row` of W: values [k], the same that ggml's conversion gives.
void widen_row(const QuantizedMatrix& w, int row, float* values);

}  // namespace fastkv::kernels
