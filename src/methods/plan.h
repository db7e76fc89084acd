// What a method says about a layer. Plans are data: the engine carries them out without knowing whose they are.
#pragma once

#include <optional>

#include "fastkv/method.h"

namespace fastkv {

/// Where a plan is asked for.
struct PlanPoint {
    int layer = 0;  ///< from 0
    int n_layer = 0;
    int n_prompt = 0;  ///< tokens of the prompt; in pass 1 those that the restart left
    int n_rows = 0;    ///< tokens that reach the layer
    int pass = 0;      ///< 1 after a restart (PropagatePlan::restart)
};

/// What a token's score is made of.
enum class ScoreKind {
    softmax,  ///< attention probabilities, softmax in float32 over all columns (paper, section 4.1, eq. 1)
    product,  ///< the raw product q·k, not scaled (GemFilter)
    expected  ///< the attention that queries to come will pay, from the mean and covariance of all queries of the
              ///< prompt (ExpectedAttention, arXiv 2510.00636, section 3); reads no query of its own
};

/// Which keys a scoring query sees.
enum class ScoreMask {
    causal,       ///< those up to its own
    tail_causal,  ///< all; but rows of the tail see no later key of the tail (the reference's H2O)
};

/// How the prompt's tokens are scored in a layer: each of the last `n_query` rows looks at the keys, and what a key
/// gets from them is summed, row by row weighed from 1 (the first) to `last_weight` (the last); one row of scores per
/// query head. The last `tail` columns are not scored: scores end where the tail begins. Then they are pooled along the
/// tokens.
struct ScorePlan {
    int n_query = 0;
    int tail = 0;
    int sinks = 0;  ///< expected: the first rows are neither asked nor judged; their scores are 0
    ScoreKind kind = ScoreKind::softmax;
    ScoreMask mask = ScoreMask::causal;
    double last_weight = 1;
    int kernel = 1;            ///< odd; 1: no pooling
    bool whole_spans = false;  ///< then tokens that belong together by what the text is (a number, a word) share their
                               ///< best score
    Pooling pooling = Pooling::max;
};

/// The weight of scoring row `i`, from 0 on.
inline double row_weight(const ScorePlan& plan, int i) {
    return plan.n_query > 1 ? 1 + (plan.last_weight - 1) * i / (plan.n_query - 1) : 1;
}

/// What the cache keeps of a layer, per cached head: the first `sinks` rows, the last `tail` rows, and of those between
/// the best by score; `count` in all. Without a ScorePlan `count` is sinks + tail. A count of 0 caches nothing.
struct KeepPlan {
    int count = 0;
    int sinks = 0;
    int tail = 0;
    SelectPer per = SelectPer::kv_head;  ///< kv_head: scores of a group's query heads are summed
    double floor = 1;  ///< < 1: the heads share n_head · count among them by score, each has at least count · floor
};

/// Which tokens go on to the layers above: the first `sinks`, the last `tail`, and the best between by the sum over all
/// heads (paper, section 4.2); `count` in all.
struct PropagatePlan {
    int count = 0;
    int sinks = 0;
    int tail = 0;
    int n_layer = 1;       ///< > 1: by the maximum over the scores of this layer and the n_layer - 1 before it (CLAA,
                           ///< arXiv 2602.16054); those layers need the same columns
    bool restart = false;  ///< they do not go on but start again, as a prompt of their own, in pass 1 (GemFilter)
};

/// A missing `keep` keeps every token, a missing `propagate` lets every token go on.
struct LayerPlan {
    std::optional<ScorePlan> score;
    std::optional<KeepPlan> keep;
    std::optional<PropagatePlan> propagate;
};

}  // namespace fastkv
