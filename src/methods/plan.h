// What a method says about a layer. Plans are data: the engine carries them out without knowing whose they are.
#pragma once

#include <optional>

#include "fastkv/method.h"

namespace fastkv {

/// How the prompt's tokens are scored in a layer: the last `window` queries attend to all keys (softmax in
/// float32, causal inside the window); the probabilities of each key are summed over the window's rows, pooled
/// along the tokens, and the `n_group` query heads of a key/value head are summed (paper, section 4.1, eq. 1).
/// The window's own columns are dropped: scores end where the window begins.
struct ScorePlan {
    int window = 0;
    int kernel = 1;  ///< odd; 1: no pooling
    Pooling pooling = Pooling::max;
};

/// Which tokens go on to the layers above: the `count - tail` best by the sum over all key/value heads, and the
/// last `tail` (paper, section 4.2).
struct PropagatePlan {
    int count = 0;
    int tail = 0;
};

/// Which tokens the cache keeps: per key/value head the `count - tail` best, and the last `tail`.
struct KeepPlan {
    int count = 0;
    int tail = 0;
};

/// A missing `keep` keeps every token, a missing `propagate` lets every token go on; `score` is there exactly
/// when one of the two is.
struct LayerPlan {
    std::optional<ScorePlan> score;
    std::optional<KeepPlan> keep;
    std::optional<PropagatePlan> propagate;
};

}  // namespace fastkv
