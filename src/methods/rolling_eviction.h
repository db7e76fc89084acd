// StreamingLLM while decoding: the first tokens and a rolling window of the last ones.
#pragma once

#include <memory>

#include "methods/eviction.h"

namespace fastkv {

/// Keeps the first `sinks` entries and the newest `budget - sinks`; budget > sinks. The prompt may have been shorter
/// than the budget, or than the sinks. All heads alike. (Xiao et al., arXiv 2309.17453, section 3.2.)
std::unique_ptr<Eviction> rolling_eviction(int sinks, int budget);

}  // namespace fastkv
