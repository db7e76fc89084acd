// How many tokens a layer caches and how many go on, in the reference's arithmetic: what several methods share.
#pragma once

#include "fastkv/method.h"
#include "methods/plan.h"

namespace fastkv {

/// `count` · `rate` as the reference rounds it: the product of doubles, truncated.
inline int truncated(int count, double rate) { return int(count * rate); }

/// Fills in the retain rate where there is no budget, and checks them. Throws Error(usage), as all of these do.
void resolve_budget(MethodParams& resolved);

/// Tokens that a layer caches of the `n_rows` that reach it. May be more than there are.
int rate_or_budget(const MethodParams& params, int n_rows);

// ---- fastkv, snapkv and h2o: a window scores, budgets may differ by layer and head, tokens may be propagated --------

/// Fills in and checks the window.
void resolve_window(MethodParams& resolved);

/// Fills in and checks kernel, pooling and who scores.
void resolve_scoring(MethodParams& resolved);

/// The scoring that these two have filled in.
ScorePlan window_score(const MethodParams& params);

/// Fills in and checks rates or counts and how layers and heads share them; after the window and the scoring.
/// `tsp_layer`: a TspLayer constant, what holds where the parameter is not given.
void resolve_sharing(MethodParams& resolved, const HyperParams& hparams, int tsp_layer);

/// Tokens that the layer caches. A budget that does not hold the `protected_rows` is not reshaped.
int layer_budget(const MethodParams& params, const PlanPoint& at, int protected_rows);

/// The plan of a layer whose cache would keep `keep` by `score`: what there is to drop is dropped, what shall go on is
/// propagated, and where neither asks for scores there are none.
LayerPlan plan_layer(const MethodParams& params, const PlanPoint& at, const ScorePlan& score, KeepPlan keep);

}  // namespace fastkv
