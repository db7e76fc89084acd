// Shares over layers, or over anything else that is counted from 0.
#pragma once

#include <string>
#include <vector>

#include "eval/canvas.h"

namespace fastkv::eval {

struct LinePlot {
    struct Line {
        std::string name;
        std::vector<double> values;  ///< [points] in [0, 1]
        std::vector<double> thin;    ///< [points] of a thinner line in the same colour; or empty
    };

    std::string title;
    std::vector<std::string> notes;  ///< small lines below it
    std::string x_name;              ///< "layer"
    std::vector<Line> lines;
};

/// Percent from 0 to 100 upwards, a legend at the right. `png`: where can_draw_png(), else as SVG.
std::string draw_line_plot(const LinePlot& plot, bool png);

}  // namespace fastkv::eval
