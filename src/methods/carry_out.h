// A plan and its scores become a choice of rows.
#pragma once

#include <span>
#include <vector>

#include "methods/plan.h"
#include "methods/select.h"

namespace fastkv {

/// Where a plan is carried out.
struct CarryOut {
    int n_group = 1;                              ///< query heads that share a key/value head
    int n_rows = 0;                               ///< rows that reach the layer
    std::span<const int> spans;                   ///< [n_rows] with whole_spans: a name of each row's span, as for
                                                  ///< pool_spans()
    std::span<const std::vector<float>> earlier;  ///< Choice::total of the layers before, newest last
};

/// Rows of a layer, ascending, counted from 0 among those that reached it.
struct Choice {
    std::vector<std::vector<int>> kept;  ///< [cached heads][own count]; one list where all heads keep the same rows, as
                                         ///< without scores; empty: every row, or with a KeepPlan::count of 0 none
    std::vector<int> propagated;         ///< or empty: every row goes on
    std::vector<float> total;            ///< [n_col] this layer's scores, pooled, added up over all heads; empty
                                         ///< without scores
};

/// `scores` are one row per query head, unpooled, as plan.score asks for them; they are used up. Needs no scores where
/// the plan asks for none.
Choice carry_out(const LayerPlan& plan, Scores scores, const CarryOut& context);

}  // namespace fastkv
