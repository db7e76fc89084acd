#include "tune/plot.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "eval/format.h"

namespace fastkv::tune {

namespace {

using eval::format;

// Of the picture, in pixels.
constexpr double width = 760, left = 78, right = 20, panel_height = 220, gap = 56, top = 56, bottom = 54;

std::string escaped(const std::string& plain) {
    std::string xml;
    for (const char c : plain) xml += c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : std::string(1, c);
    return xml;
}

// A panel: values between `low` and `high` from its lower to its upper edge, layers from left to right.
struct Panel {
    double y0;  // upper edge
    double low, high;
    int n_layer;

    double x(double layer) const { return left + (width - left - right) * (layer + 0.5) / n_layer; }
    double y(double value) const { return y0 + panel_height * (1 - (value - low) / (high - low)); }
};

std::string frame(const Panel& panel, const std::string& name) {
    return format("<rect x='%.1f' y='%.1f' width='%.1f' height='%.1f' class='frame'/>\n", left, panel.y0,
                  width - left - right, panel_height) +
           format("<text x='%.1f' y='%.1f' class='name'>%s</text>\n", left, panel.y0 - 10, name.c_str());
}

std::string tick(const Panel& panel, double value, const std::string& label) {
    const double y = panel.y(value);
    return format("<line x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f' class='grid'/>", left, y, width - right, y) +
           format("<text x='%.1f' y='%.1f' text-anchor='end'>%s</text>\n", left - 8, y + 4, label.c_str());
}

std::string mark_chosen(const Panel& panel, int layer) {
    if (layer < 0) return "";
    const double x = panel.x(layer);
    return format("<line x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f' class='chosen'/>\n", x, panel.y0, x,
                  panel.y0 + panel_height);
}

std::string layer_axis(const Panel& panel) {
    std::string axis;
    const int step = std::max(1, (panel.n_layer + 15) / 16);
    for (int layer = 0; layer < panel.n_layer; layer += step) {
        axis += format("<text x='%.1f' y='%.1f' text-anchor='middle'>%d</text>", panel.x(layer),
                       panel.y0 + panel_height + 18, layer);
    }
    return axis + format("\n<text x='%.1f' y='%.1f' text-anchor='middle'>TSP layer, counted from 0</text>\n",
                         left + (width - left - right) / 2, panel.y0 + panel_height + 40);
}

std::string line_of(const std::vector<std::pair<double, double>>& points) {
    std::string list;
    for (const auto& [x, y] : points) list += format("%.1f,%.1f ", x, y);
    return "<polyline points='" + list + "' class='line'/>\n";
}

std::string distance_panel(const Curves& curves) {
    double low = INFINITY, high = -INFINITY;
    for (const LayerDistance& distance : curves.distances) {
        if (!(distance.relative > 0)) continue;
        low = std::min(low, std::log10(distance.relative));
        high = std::max(high, std::log10(distance.relative));
    }
    if (!(low <= high)) low = -1, high = 0;
    const Panel panel{top, std::floor(low), std::max(std::ceil(high), std::floor(low) + 1), curves.n_layer};
    std::string svg = frame(panel, "Distance of the last hidden state from FullKV&#8217;s, relative (eq. 3)");
    for (double power = panel.low; power <= panel.high; ++power) {
        svg += tick(panel, power, format("%g", std::pow(10, power)));
    }
    svg += mark_chosen(panel, curves.chosen);
    std::vector<std::pair<double, double>> points;
    for (const LayerDistance& distance : curves.distances) {
        if (!(distance.relative > 0)) continue;
        points.emplace_back(panel.x(distance.layer), panel.y(std::log10(distance.relative)));
    }
    svg += line_of(points);
    for (const auto& [x, y] : points) svg += format("<circle cx='%.1f' cy='%.1f' r='3.5'/>\n", x, y);
    return svg;
}

std::string full_band(const Panel& panel, const eval::Tally& full) {
    const eval::Interval interval = eval::wilson(full.right, full.asked);
    return format("<rect x='%.1f' y='%.1f' width='%.1f' height='%.1f' class='band'/>", left, panel.y(interval.high),
                  width - left - right, panel.y(interval.low) - panel.y(interval.high)) +
           format("<line x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f' class='full'/>", left, panel.y(full.share()),
                  width - right, panel.y(full.share())) +
           format("<text x='%.1f' y='%.1f' text-anchor='end' class='fulltext'>FullKV %d of %d</text>\n",
                  width - right - 6, panel.y(full.share()) + 15, full.right, full.asked);
}

std::string answer_panel(const Curves& curves) {
    const Panel panel{top + panel_height + gap, 0, 1, curves.n_layer};
    std::string svg = frame(panel, "Right answers, with intervals of 95 %");
    if (curves.full.asked > 0) svg += full_band(panel, curves.full);
    for (const int percent : {0, 25, 50, 75, 100}) svg += tick(panel, percent / 100.0, format("%d %%", percent));
    svg += mark_chosen(panel, curves.chosen);
    std::vector<std::pair<double, double>> points;
    for (const LayerAnswers& at : curves.answers) {
        const eval::Interval interval = eval::wilson(at.tally.right, at.tally.asked);
        const double x = panel.x(at.layer);
        svg += format("<line x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f' class='whisker'/>", x, panel.y(interval.low), x,
                      panel.y(interval.high));
        points.emplace_back(x, panel.y(at.tally.share()));
    }
    svg += line_of(points);
    for (const auto& [x, y] : points) svg += format("<circle cx='%.1f' cy='%.1f' r='3.5'/>\n", x, y);
    return svg + layer_axis(panel);
}

}  // namespace

std::string plot_svg(const Curves& curves) {
    const double height = top + 2 * panel_height + gap + bottom;
    std::string svg = format("<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %g %g' width='%g' height='%g' ",
                             width, height, width, height);
    svg +=
        "font-family='sans-serif' font-size='12'>\n<style>.frame{fill:none;stroke:#888}.grid{stroke:#ddd}"
        ".line{fill:none;stroke:#1f5fa8;stroke-width:2}circle{fill:#1f5fa8}.whisker{stroke:#1f5fa8}"
        ".chosen{stroke:#c2410c;stroke-width:2;stroke-dasharray:5 4}.band{fill:#3f7d4a;opacity:.13}"
        ".full{stroke:#3f7d4a;stroke-width:1.5}.fulltext{fill:#3f7d4a}.name{font-weight:bold}"
        "</style>\n<rect width='100%' height='100%' fill='white'/>\n";
    svg += "<text x='" + format("%g", left) + "' y='22' font-size='14' class='name'>" + escaped(curves.title) +
           "</text>\n";
    return svg + distance_panel(curves) + answer_panel(curves) + "</svg>\n";
}

}  // namespace fastkv::tune
