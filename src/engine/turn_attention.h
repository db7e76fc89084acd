// Attention of a later turn's rows over one layer's cache, in which their own entries are the last.
#pragma once

#include <vector>

#include "engine/attention.h"

namespace fastkv {

/// All heads together where they hold entries alike; head by head where they differ in number, or, with a sliding
/// window, in what they hide. Entries lie in order of position: nothing has been dropped behind the prefill's back.
class TurnAttention {
  public:
    /// `cache` must stay as it is for as long as this lives.
    TurnAttention(const HyperParams& hparams, const KernelChoice& choice, const LayerCache& cache,
                  ggml_gallocr_t allocator);

    /// The attention of `count` rows whose entries are the ones from the `n_back`-th last on. To be used by one graph
    /// at a time.
    Attend of(int n_back, int count);

    /// Nodes that it adds to a graph.
    int n_nodes() const { return 16 * int(groups_.size()); }

  private:
    struct Group {
        int first_head;  // of the cached heads
        int n_head;
        int n_entry;  // of each
        PrefillAttention attention;
        std::vector<int32_t> key_rows = {};  // [rows of a graph]
    };

    ggml_context_ptr views_;  // of heads of the cache
    std::vector<Group> groups_;
    int n_head_;  // query heads
    int n_head_cached_;
};

}  // namespace fastkv
