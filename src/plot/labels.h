// Names beside what they name, none upon another.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "plot/canvas.h"

namespace fastkv::plot {

/// In pixels from the upper left corner.
struct Box {
    double left, top, right, bottom;
};

struct Label {
    std::string words;
    double x = 0, y = 0;  ///< base line
    Anchor anchor = Anchor::start;
    bool far = false;  ///< so far from its point that a line should lead there
};

/// Pixels that text of font size 12 takes, about.
double text_width(const std::string& words);

/// A place near each of `points` within `frame`, which hides no other point, no other name and nothing of what is
/// `taken` where there is room.
std::vector<Label> place_labels(const std::vector<std::pair<double, double>>& points,
                                const std::vector<std::string>& names, const Box& frame, std::vector<Box> taken);

/// Heights near the wanted ones, in their order, at least `step` apart and within [low, high] where they fit.
std::vector<double> spread_heights(const std::vector<double>& wanted, double step, double low, double high);

}  // namespace fastkv::plot
