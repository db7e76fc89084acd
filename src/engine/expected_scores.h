// What queries to come may be expected to look at, from all of a prompt's queries: ScoreKind::expected.
#pragma once

#include "engine/scores.h"

namespace fastkv {

/// The scores of ExpectedAttention (methods/expected_attention.h) for the layer's rows: [n_head][n_rows - tail].
Scores expected_token_scores(const ScoredLayer& at, const ScorePlan& plan);

}  // namespace fastkv
