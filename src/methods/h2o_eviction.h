// H2O while decoding: heavy hitters and recent tokens at a constant budget.
#pragma once

#include <memory>

#include "methods/eviction.h"

namespace fastkv {

/// The attention that each entry gets adds up, from the prompt's scores on, over the query heads that share a cached
/// head. Above `budget` entries per head the one with the lowest sum leaves among those that are not the
/// `recent` newest (0 < recent <= budget); of equal sums the older one. Each head on its own.
/// (Zhang et al., arXiv 2306.14048, section 4 and algorithm 1.)
std::unique_ptr<Eviction> h2o_eviction(int budget, int recent);

}  // namespace fastkv
