// What a method drops from a layer's cache while the answer grows. Plain numbers: no tensors, no devices.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace fastkv {

/// How the last rows of a prompt attended in a layer: what an eviction that continues from the prefill begins with.
struct PromptAttention {
    int n_row = 0;            ///< the last rows of the prompt
    int n_col = 0;            ///< entries of the cache, by position
    std::vector<float> mean;  ///< [n_row][n_col] attention probabilities, averaged over the query heads
};

/// What an eviction has counted and added up since start(). With the entries that the cache holds it goes on from
/// there.
struct EvictionState {
    std::vector<int32_t> counts;
    std::vector<float> sums;
};

/// One layer's eviction. After every token the engine calls step(), removes what it returns, and tells nobody: the
/// remaining entries follow the rule of remove_entries(). Entries of a head are numbered from 0 as they lie in the
/// cache, which is by position until something has been removed.
class Eviction {
  public:
    virtual ~Eviction() = default;

    /// Whether step() reads the attention of the token.
    virtual bool reads_attention() const { return false; }

    /// How many of the prompt's last rows start() wants to see the attention of; 0: none.
    virtual int prompt_rows() const { return 0; }

    /// Whether start() reads the scores by which the prompt's entries were chosen.
    virtual bool reads_scores() const { return false; }

    /// After the prefill. `positions` [n_head][entries] ascending: what each cached head keeps. `attention` has
    /// prompt_rows() rows. `scores` [n_head][entries], empty unless reads_scores(): of each kept entry the sum that the
    /// layer's ScorePlan asks for, unpooled, added up over the query heads that share the cached head; 0 where the plan
    /// does not score (its tail, or a layer without one).
    virtual void start(std::span<const std::vector<int32_t>> positions, const PromptAttention& attention,
                       std::span<const std::vector<float>> scores) = 0;

    virtual EvictionState state() const = 0;

    /// Instead of start(): goes on from `state`, bit for bit. `positions` [n_head][entries]: what each cached head held
    /// then, as it lay in the cache. False where `state` is none of this eviction's with such a cache.
    virtual bool resume(std::span<const std::vector<int32_t>> positions, const EvictionState& state) = 0;

    /// After the token at `position` has been appended to every head (as its last entry) and has attended.
    /// `attention` [n_query_head][entries of its head]: its probabilities, empty unless reads_attention().
    /// Returns the entries to remove per cached head, ascending; one list for all heads where they are the same, none
    /// where nothing leaves.
    virtual std::vector<std::vector<int>> step(int32_t position, std::span<const std::vector<float>> attention) = 0;

    /// Rows at the start of the cache that always stand right before the others: their keys are turned so that the
    /// distances in the cache are as if nothing had been dropped between (StreamingLLM). 0: keys stay as they are.
    virtual int rolling_sinks() const { return 0; }
};

/// The rule by which entries leave, for whatever stands in a row per entry: from the last hole to the first, the last
/// entry moves into the hole and the row gets shorter by one. `removed` ascending.
template <class T>
void remove_entries(std::vector<T>& entries, std::span<const int> removed) {
    for (size_t i = removed.size(); i-- > 0;) {
        entries[size_t(removed[i])] = entries.back();
        entries.pop_back();
    }
}

/// Whether all heads hold the same positions, as they lie.
bool heads_alike(std::span<const std::vector<int32_t>> positions);

/// Those entries of a head whose positions come first-th to last-th (excluded, from 0) among all; oldest first.
/// `positions` are those of the head's entries. Linear in their number.
std::vector<int> entries_by_age(std::span<const int32_t> positions, int first, int last);

}  // namespace fastkv
