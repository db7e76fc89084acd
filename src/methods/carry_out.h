// A plan and its scores become a choice of rows.
#pragma once

#include <vector>

#include "methods/plan.h"
#include "methods/select.h"

namespace fastkv {

/// Rows of a layer, ascending, counted from 0 among those that reached it.
struct Choice {
    std::vector<std::vector<int>> kept;  ///< [n_head_kv][count], or empty: every row is kept
    std::vector<int> propagated;         ///< or empty: every row goes on
};

/// `scores` are one row per query head, unpooled, as plan.score asks for them; they are used up. `n_group` query heads
/// share a key/value head. Needs no scores where the plan asks for none.
Choice carry_out(const LayerPlan& plan, Scores scores, int n_group, int n_rows);

}  // namespace fastkv
