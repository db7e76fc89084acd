#include "methods/rolling_eviction.h"

#include <algorithm>
#include <numeric>

namespace fastkv {

namespace {

// The newest entry moves into the hole that the oldest leaves, so the window is a ring behind the sinks: `oldest_` goes
// round in it.
class RollingEviction final : public Eviction {
  public:
    RollingEviction(int sinks, int budget) : sinks_(sinks), budget_(budget) {}

    int rolling_sinks() const override { return sinks_; }

    void start(std::span<const std::vector<int32_t>> positions, const PromptAttention&,
               std::span<const std::vector<float>>) override {
        entries_ = int(positions[0].size());
        oldest_ = 0;
    }

    EvictionState state() const override { return {.counts = {oldest_}, .sums = {}}; }

    bool resume(std::span<const std::vector<int32_t>> positions, const EvictionState& state) override {
        if (state.counts.size() != 1 || !heads_alike(positions)) return false;
        entries_ = int(positions[0].size());
        oldest_ = state.counts[0];
        return oldest_ >= 0 && oldest_ < budget_ - sinks_ && (oldest_ == 0 || entries_ == budget_);
    }

    std::vector<std::vector<int>> step(int32_t, std::span<const std::vector<float>>) override {
        const int excess = ++entries_ - budget_;
        if (excess <= 0) return {};
        // More than one leaves only at the first step, where the oldest stand first. The holes take the newest.
        std::vector<int> removed(static_cast<size_t>(excess));
        std::iota(removed.begin(), removed.end(), sinks_ + oldest_);
        oldest_ = (oldest_ + excess) % (budget_ - sinks_);
        entries_ = budget_;
        return {removed};
    }

  private:
    int sinks_;
    int budget_;
    int entries_ = 0;
    int oldest_ = 0;  // entry of the window, from 0 behind the sinks
};

}  // namespace

std::unique_ptr<Eviction> rolling_eviction(int sinks, int budget) {
    return std::make_unique<RollingEviction>(sinks, budget);
}

}  // namespace fastkv
