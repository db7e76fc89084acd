// The curves of a tuning, as an SVG picture.
#pragma once

#include <string>
#include <vector>

#include "eval/statistics.h"
#include "tune/layer_distance.h"

namespace fastkv::tune {

/// Answers with TSP at a layer, everything else as chosen.
struct LayerAnswers {
    int layer = 0;
    eval::Tally tally;
};

struct Curves {
    std::string title;
    int n_layer = 0;
    std::vector<LayerDistance> distances;
    std::vector<LayerAnswers> answers;
    eval::Tally full;  ///< FullKV on the same prompts as `answers`
    int chosen = -1;   ///< the chosen layer, < 0: none
};

/// Two panels over one axis of layers: eq. 3's relative distance, logarithmic, and right answers with their intervals
/// of 95 % beside FullKV's.
std::string plot_svg(const Curves& curves);

}  // namespace fastkv::tune
