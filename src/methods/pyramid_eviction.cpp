#include "methods/pyramid_eviction.h"

#include <algorithm>
#include <deque>

#include "methods/select.h"

namespace fastkv {

namespace {

// How many of a block's `width` entries leave.
int leaving(const PyramidEvictionParams& params, int width) {
    return width - std::clamp(int(width * params.keep), std::min(1, width), width);
}

std::vector<float> mean_over_heads(std::span<const std::vector<float>> attention) {
    std::vector<float> mean(attention[0].size());  // [entries]
    for (const std::vector<float>& head : attention) {
        for (size_t i = 0; i < mean.size(); ++i) mean[i] += head[i];
    }
    for (float& x : mean) x /= float(attention.size());
    return mean;
}

// All of `block` but the best `n_kept` by score, ascending. Both [width], oldest first.
std::vector<int> all_but_best(const std::vector<int>& block, const std::vector<float>& scores, int n_kept) {
    std::vector<int> removed;
    const std::vector<int> kept = top_k(scores, n_kept);
    for (int i = 0; i < std::ssize(block); ++i) {
        if (!std::binary_search(kept.begin(), kept.end(), i)) removed.push_back(block[size_t(i)]);
    }
    std::sort(removed.begin(), removed.end());
    return removed;
}

// A layer's length and the counter that holds its eviction back, in the reference's terms. Both follow from counting,
// so every layer can follow layer 0, whose length decides how many tokens are recent.
struct ReferenceCount {
    int length = 0;
    int base = 0;

    // Whether counting may have come here: no text is longer than 2^30 tokens.
    bool is_plausible() const {
        constexpr int limit = 1 << 30;
        return length >= 0 && length < limit && base > -limit && base < limit;
    }

    int recent(const PyramidEvictionParams& params) const { return int((1 + length) * params.recent); }

    // Counts the token at `position`; returns the width of the block that loses some of its entries, or 0. The counter
    // mixes the text's length with the cache's, as the reference does.
    int append(int32_t position, int n_recent, const PyramidEvictionParams& params) {
        ++length;
        if (position + 1 - n_recent - base < params.block) return 0;
        const int width = std::clamp(length - 1 - n_recent, 0, params.block);
        length -= leaving(params, width);
        base = length - n_recent;
        return width;
    }
};

class ReferencePyramid final : public Eviction {
  public:
    explicit ReferencePyramid(const PyramidEvictionParams& params) : params_(params) {}

    bool reads_attention() const override { return true; }
    int prompt_rows() const override { return 1 + int(params_.n_prompt * params_.recent); }

    void start(std::span<const std::vector<int32_t>> positions, const PromptAttention& attention,
               std::span<const std::vector<float>>) override {
        positions_ = positions[0];
        own_ = first_count(params_.layer, int(positions_.size()));
        layer0_ = first_count(0, params_.n_prompt);
        rows_.clear();
        for (auto row = attention.mean.begin(); row != attention.mean.end(); row += attention.n_col) {
            rows_.emplace_back(row, row + attention.n_col);
        }
        // The prefill has weighed its context in place when it chose what goes on.
        const std::vector<int> context = entries_by_age(positions_, 0, attention.n_col - attention.n_row);
        for (size_t i = 0; i < rows_.size(); ++i) weigh_row(i, context);
    }

    EvictionState state() const override {
        EvictionState state{.counts = {own_.length, own_.base, layer0_.length, layer0_.base}, .sums = {}};
        for (const std::vector<float>& row : rows_) state.sums.insert(state.sums.end(), row.begin(), row.end());
        return state;
    }

    bool resume(std::span<const std::vector<int32_t>> positions, const EvictionState& state) override {
        positions_ = positions[0];
        const size_t n_entry = positions_.size();
        if (state.counts.size() != 4 || n_entry == 0 || state.sums.size() % n_entry != 0) return false;
        own_ = {.length = state.counts[0], .base = state.counts[1]};
        layer0_ = {.length = state.counts[2], .base = state.counts[3]};
        rows_.clear();
        for (auto row = state.sums.begin(); row != state.sums.end(); row += ptrdiff_t(n_entry)) {
            rows_.emplace_back(row, row + ptrdiff_t(n_entry));
        }
        return heads_alike(positions) && own_.length == int(n_entry) && own_.is_plausible() && layer0_.is_plausible();
    }

    std::vector<std::vector<int>> step(int32_t position, std::span<const std::vector<float>> attention) override {
        const int n_recent = layer0_.recent(params_);
        layer0_.append(position, n_recent, params_);
        positions_.push_back(position);
        for (std::vector<float>& row : rows_) row.push_back(0);
        rows_.push_back(mean_over_heads(attention));
        while (std::ssize(rows_) > 1 + n_recent) rows_.pop_front();

        const int width = own_.append(position, n_recent, params_);
        if (width == 0) return {};
        const int end = int(positions_.size()) - 1 - n_recent;
        const std::vector<int> block = entries_by_age(positions_, end - width, end);
        const std::vector<int> removed = all_but_best(block, block_scores(block), width - leaving(params_, width));
        remove_entries(positions_, removed);
        for (std::vector<float>& row : rows_) remove_entries(row, removed);
        return {removed};
    }

  private:
    // transformers 4.45.0 fills the cache's list before the prompt, so that the counters, which read its last layer,
    // find 0 in every layer but that one.
    ReferenceCount first_count(int layer, int length) const {
        return {.length = length, .base = layer == params_.n_layer - 1 ? length : 0};
    }

    // Later queries weigh more, from 1 to distance_weight. The weights stay in the rows, so they pile up for as long as
    // a column is in the block.
    void weigh_row(size_t i, const std::vector<int>& columns) {
        const double share = rows_.size() > 1 ? double(i) / double(rows_.size() - 1) : 0;
        const float weight = float(1 + (params_.distance_weight - 1) * share);
        for (int column : columns) rows_[i][size_t(column)] *= weight;
    }

    std::vector<float> block_scores(const std::vector<int>& block) {
        std::vector<float> scores(block.size());
        for (size_t i = 0; i < rows_.size(); ++i) {
            weigh_row(i, block);
            for (size_t j = 0; j < block.size(); ++j) scores[j] += rows_[i][size_t(block[j])];
        }
        for (float& score : scores) score /= float(rows_.size());
        return scores;
    }

    PyramidEvictionParams params_;
    ReferenceCount own_;
    ReferenceCount layer0_;
    std::vector<int32_t> positions_;       // [entries]
    std::deque<std::vector<float>> rows_;  // [1 + recent][entries] attention of the recent queries, mean over heads
};

class GuardedPyramid final : public Eviction {
  public:
    explicit GuardedPyramid(const PyramidEvictionParams& params) : params_(params) {}

    bool reads_attention() const override { return true; }

    void start(std::span<const std::vector<int32_t>> positions, const PromptAttention&,
               std::span<const std::vector<float>>) override {
        positions_ = positions[0];
        received_.assign(positions_.size(), {});
        passed_ = std::max(params_.sinks, context_length(params_.n_prompt));
    }

    EvictionState state() const override {
        EvictionState state{.counts = {passed_}, .sums = {}};
        for (const Received& received : received_) {
            state.counts.push_back(received.steps);
            state.sums.push_back(received.sum);
        }
        return state;
    }

    bool resume(std::span<const std::vector<int32_t>> positions, const EvictionState& state) override {
        positions_ = positions[0];
        const size_t n_entry = positions_.size();
        if (state.counts.size() != 1 + n_entry || state.sums.size() != n_entry || !heads_alike(positions)) return false;
        passed_ = state.counts[0];
        received_.clear();
        for (size_t entry = 0; entry < n_entry; ++entry) {
            received_.push_back({.sum = state.sums[entry], .steps = state.counts[1 + entry]});
            if (received_.back().steps < 0 || received_.back().steps >= 1 << 30) return false;
        }
        return passed_ >= 0 && passed_ < 1 << 30;
    }

    std::vector<std::vector<int>> step(int32_t position, std::span<const std::vector<float>> attention) override {
        positions_.push_back(position);
        received_.emplace_back();
        const std::vector<float> row = mean_over_heads(attention);
        for (size_t i = 0; i < row.size(); ++i) received_[i].add(row[i]);

        const int context = context_length(position + 1);
        if (context - passed_ < params_.block) return {};
        const std::vector<int> block = entries_by_age(positions_, passed_, context);
        std::vector<float> scores;
        for (int entry : block) scores.push_back(received_[size_t(entry)].mean());
        const int n_kept = int(block.size()) - leaving(params_, int(block.size()));
        const std::vector<int> removed = all_but_best(block, scores, n_kept);
        remove_entries(positions_, removed);
        remove_entries(received_, removed);
        passed_ = context - int(removed.size());
        return {removed};
    }

  private:
    // Attention that an entry has received since the prompt, or since it was appended.
    struct Received {
        float sum = 0;
        int steps = 0;

        void add(float x) {
            sum += x;
            ++steps;
        }
        float mean() const { return sum / float(steps); }
    };

    // Entries before the recent ones, when the text is `n_text` tokens long.
    int context_length(int n_text) const { return int(positions_.size()) - 1 - int(n_text * params_.recent); }

    PyramidEvictionParams params_;
    std::vector<int32_t> positions_;  // [entries]
    std::vector<Received> received_;  // [entries]
    int passed_ = 0;                  // the oldest entries: sinks, chosen by the prefill, or left of a block
};

}  // namespace

std::unique_ptr<Eviction> pyramid_eviction(const PyramidEvictionParams& params) {
    if (params.variant == PyramidDecode::reference) return std::make_unique<ReferencePyramid>(params);
    return std::make_unique<GuardedPyramid>(params);
}

}  // namespace fastkv
