#include "engine/attention_record.h"

#include <utility>

namespace fastkv {

AttentionRecord::AttentionRecord(int n_layer, int n_head, int n_prompt, std::vector<int> restarted)
    : n_head_(n_head),
      n_prompt_(n_prompt),
      restarted_(std::move(restarted)),
      sums_(size_t(n_layer), std::vector<float>(size_t(n_head) * size_t(n_prompt), 0)) {}

void AttentionRecord::add(int layer, const LayerCache& cache, std::span<const std::vector<float>> attention) {
    const int n_query = n_head_ / cache.n_head();  // query heads of a cached head
    const int n_known = restarted_.empty() ? n_prompt_ : int(restarted_.size());
    for (int head = 0; head < n_head_; ++head) {
        const auto positions = cache.positions(head / n_query);
        float* sum = sums_[size_t(layer)].data() + size_t(head) * size_t(n_prompt_);
        for (size_t entry = 0; entry < positions.size(); ++entry) {
            const int position = positions[entry];
            if (position >= n_known) continue;  // of the answer
            sum[restarted_.empty() ? position : restarted_[size_t(position)]] += attention[size_t(head)][entry];
        }
    }
}

}  // namespace fastkv
