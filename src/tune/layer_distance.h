// The paper's way to choose the TSP layer (arXiv 2502.01068 v7, eq. 3).
#pragma once

#include <functional>
#include <vector>

#include "fastkv/method.h"

namespace fastkv::tune {

/// What propagation from one layer on changes at the end.
struct LayerDistance {
    int layer = 0;
    double squared = 0;   ///< mean over prompts of the squared L2 distance of the last token's final residual row
    double relative = 0;  ///< the same over the mean squared length of FullKV's row
};

/// The last residual row of prompt `prompt` under a method.
using HiddenOf = std::function<std::vector<float>(int prompt, const MethodParams& method)>;

/// Eq. 3 for every layer in `layers`, over prompts 0 to n_prompts - 1: FullKV against `method` with TSP at that layer.
/// What the caches keep has no part in it: a prefill attends to all that reaches a layer.
std::vector<LayerDistance> layer_distances(const std::vector<int>& layers, int n_prompts, const MethodParams& method,
                                           const HiddenOf& hidden_of);

/// Layers in the order of their distances, the smallest first.
std::vector<int> nearest_layers(const std::vector<LayerDistance>& distances);

}  // namespace fastkv::tune
