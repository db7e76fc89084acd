#include "kernels/score_block.h"

#include <algorithm>
#include <limits>

#include "kernels/half_product.h"

namespace fastkv::kernels {

size_t ScoreBlock::score_bytes(GemmType type, int key_length) {
    return has_half_scores(type, key_length) ? sizeof(uint16_t) : sizeof(float);
}

ScoreBlock::ScoreBlock(GemmType type, int key_length, int n_row, int n_key, void* memory, float* scales)
    : type_(type),
      key_length_(key_length),
      n_row_(n_row),
      n_key_(n_key),
      memory_(memory),
      scales_(scales),
      in_half_(has_half_scores(type, key_length)) {}

void ScoreBlock::multiply(const ReadyRows& queries, const PackedColumns& keys) {
    const ProductShape shape = dense_product(type_, n_row_, n_key_, key_length_, false);
    if (in_half_) {
        scales_of_scores_ = {queries.scales, keys.scales};
        half::multiply_scores(shape, queries, keys, static_cast<uint16_t*>(memory_));
    } else {
        kernels::multiply(shape, queries, keys, static_cast<float*>(memory_));
    }
}

void ScoreBlock::hide(int row, int begin, int end) {
    const auto first = static_cast<size_t>(row) * static_cast<size_t>(n_key_);
    if (in_half_) {
        constexpr uint16_t hidden = 0xFC00;  // -inf
        uint16_t* scores = static_cast<uint16_t*>(memory_) + first;
        std::fill(scores + begin, scores + end, hidden);
    } else {
        float* scores = static_cast<float*>(memory_) + first;
        std::fill(scores + begin, scores + end, -std::numeric_limits<float>::infinity());
    }
}

ReadyRows ScoreBlock::to_probabilities(const OnlineSoftmax& online) {
    if (in_half_) {
        half::softmax_step(static_cast<uint16_t*>(memory_), n_row_, n_key_, scales_of_scores_, online);
        std::fill(scales_, scales_ + n_row_, 1.0F);
        return {memory_, scales_};
    }
    softmax_step(static_cast<float*>(memory_), n_row_, n_key_, type_, online);
    return ready_rows(type_, n_row_, n_key_, memory_, static_cast<size_t>(n_key_), Magnitude::up_to_one, scales_);
}

}  // namespace fastkv::kernels
