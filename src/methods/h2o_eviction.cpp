#include "methods/h2o_eviction.h"

#include <algorithm>
#include <deque>

namespace fastkv {

namespace {

struct Entry {
    int32_t position;
    float score;  // attention received so far
};

// One cached head.
struct Head {
    std::vector<Entry> entries;  // as they lie in the cache
    std::deque<int32_t> newest;  // [<= recent] positions that cannot leave, ascending

    void append(int32_t position, float score, size_t recent) {
        entries.push_back({position, score});
        newest.push_back(position);
        if (newest.size() > recent) newest.pop_front();
    }

    // The `count` entries with the lowest scores that may leave, ascending.
    std::vector<int> lightest(int count) const {
        std::vector<int> leaving;
        for (int entry = 0; entry < std::ssize(entries); ++entry) {
            if (entries[size_t(entry)].position < newest.front()) leaving.push_back(entry);
        }
        count = std::min(count, int(leaving.size()));
        const auto end = leaving.begin() + count;
        std::nth_element(leaving.begin(), end, leaving.end(), [&](int i, int j) {
            const Entry& a = entries[size_t(i)];
            const Entry& b = entries[size_t(j)];
            return a.score != b.score ? a.score < b.score : a.position < b.position;
        });
        leaving.erase(end, leaving.end());
        std::sort(leaving.begin(), leaving.end());
        return leaving;
    }
};

class H2oEviction final : public Eviction {
  public:
    H2oEviction(int budget, int recent) : budget_(budget), recent_(size_t(recent)) {}

    bool reads_attention() const override { return true; }
    bool reads_scores() const override { return true; }

    void start(std::span<const std::vector<int32_t>> positions, const PromptAttention&,
               std::span<const std::vector<float>> scores) override {
        heads_.assign(positions.size(), {});
        for (size_t head = 0; head < heads_.size(); ++head) {
            for (size_t i = 0; i < positions[head].size(); ++i) {
                heads_[head].append(positions[head][i], scores[head][i], recent_);
            }
        }
    }

    EvictionState state() const override {
        EvictionState state;
        for (const Head& head : heads_) {
            for (const Entry& entry : head.entries) state.sums.push_back(entry.score);
        }
        return state;
    }

    // The newest tokens are those of the highest positions: none of them has ever left.
    bool resume(std::span<const std::vector<int32_t>> positions, const EvictionState& state) override {
        heads_.assign(positions.size(), {});
        auto score = state.sums.begin();
        for (size_t head = 0; head < heads_.size(); ++head) {
            if (state.sums.end() - score < std::ssize(positions[head])) return false;
            for (const int32_t position : positions[head]) heads_[head].entries.push_back({position, *score++});
            std::vector<int32_t> ascending = positions[head];
            std::sort(ascending.begin(), ascending.end());
            const auto n_newest = std::min(ascending.size(), recent_);
            heads_[head].newest.assign(ascending.end() - ptrdiff_t(n_newest), ascending.end());
        }
        return score == state.sums.end();
    }

    std::vector<std::vector<int>> step(int32_t position, std::span<const std::vector<float>> attention) override {
        const size_t n_group = attention.size() / heads_.size();  // query heads that share a cached head
        std::vector<std::vector<int>> removed(heads_.size());
        for (size_t h = 0; h < heads_.size(); ++h) {
            Head& head = heads_[h];
            head.append(position, 0, recent_);
            for (const std::vector<float>& row : attention.subspan(h * n_group, n_group)) {
                for (size_t i = 0; i < row.size(); ++i) head.entries[i].score += row[i];
            }
            const int excess = int(head.entries.size()) - budget_;
            if (excess <= 0) continue;
            removed[h] = head.lightest(excess);
            remove_entries(head.entries, removed[h]);
        }
        return removed;
    }

  private:
    int budget_;
    size_t recent_;
    std::vector<Head> heads_;
};

}  // namespace

std::unique_ptr<Eviction> h2o_eviction(int budget, int recent) { return std::make_unique<H2oEviction>(budget, recent); }

}  // namespace fastkv
