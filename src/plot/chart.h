// Values over values: points, lines through them, and what they are held against.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "plot/axis.h"
#include "plot/canvas.h"

namespace fastkv::plot {

enum class Marker { none, circle, square, triangle, diamond, inverted };

/// Those that show a point, in turns: for settings that share a colour.
Marker marker_of(int index);

struct ChartPoint {
    double x = 0, y = 0;
    std::optional<std::pair<double, double>> interval = {};  ///< of y: low and high
    std::string title = {};                                  ///< shown to who points at it
};

struct ChartLine {
    std::string name;  ///< "": nobody asks for it
    Paint paint;
    std::vector<ChartPoint> points;
    double thickness = 2.2;  ///< of the line; 0: points only
    bool dashed = false;
    Marker marker = Marker::none;
};

/// What all is held against: a level of y with its interval.
struct Reference {
    double y = 0;
    std::optional<std::pair<double, double>> interval = {};
    std::string name;
};

/// Where the names of lines stand.
enum class Names { at_points, at_ends };

struct Chart {
    std::string title;  ///< over the frame
    Axis x, y;
    std::vector<ChartLine> lines;
    std::optional<Reference> reference = {};
    std::optional<double> chosen_x = {};  ///< marked from bottom to top
    Names names = Names::at_ends;
    double width = 506, height = 300;  ///< of the frame, in pixels
};

/// One without a heading; `name` says what it shows, to who cannot see it.
std::string draw_chart(const Chart& chart, const std::string& name, Target target);

/// Several stand below each other. `notes` are small lines under the title.
std::string draw_charts(const std::string& title, const std::vector<std::string>& notes,
                        const std::vector<Chart>& charts, Target target);

}  // namespace fastkv::plot
