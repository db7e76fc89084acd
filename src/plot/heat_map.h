// Scores over length and depth, as needles in haystacks are always shown.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "plot/canvas.h"

namespace fastkv::plot {

struct HeatMap {
    std::string title;         ///< "fastkv: mean 0.87"
    std::string note;          ///< small lines below it, such as all parameters; broken before " --"
    std::vector<int> lengths;  ///< columns
    std::vector<int> depths;   ///< rows, %
    /// [depths][lengths] in [0, 1]; nothing where nothing was asked or the sample failed.
    std::vector<std::vector<std::optional<double>>> scores;
};

/// Red is 0, yellow a half, green 1.
std::string draw_heat_map(const HeatMap& map, Target target);

/// The colour of a score.
Color score_color(double score);

}  // namespace fastkv::plot
