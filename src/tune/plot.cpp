#include "tune/plot.h"

#include "plot/chart.h"
#include "text/format.h"

namespace fastkv::tune {

namespace {

using plot::Chart;
using plot::ChartLine;
using plot::ChartPoint;
using text::format;

constexpr double width = 662, height = 220;

Chart distance_chart(const Curves& curves) {
    ChartLine line{.name = "", .paint = plot::Paint::series(0), .points = {}, .marker = plot::Marker::circle};
    std::vector<double> values;
    for (const auto& [layer, squared, relative] : curves.distances) {
        if (!(relative > 0)) continue;  // has no logarithm
        values.push_back(relative);
        line.points.push_back({double(layer), relative, {}, format("layer %d: %g", layer, relative)});
    }
    return {.title = "Distance of the last hidden state from FullKV’s, relative (eq. 3)",
            .x = plot::counting_axis("", curves.n_layer),
            .y = plot::logarithmic_axis("", values),
            .lines = {line}};
}

Chart answer_chart(const Curves& curves) {
    ChartLine line{.name = "", .paint = plot::Paint::series(0), .points = {}, .marker = plot::Marker::circle};
    for (const auto& [layer, tally] : curves.answers) {
        const eval::Interval interval = eval::wilson(tally.right, tally.asked);
        line.points.push_back({double(layer),
                               tally.share(),
                               {{interval.low, interval.high}},
                               format("layer %d: %d of %d", layer, tally.right, tally.asked)});
    }
    Chart chart{.title = "Right answers, with intervals of 95 %",
                .x = plot::counting_axis("TSP layer, counted from 0", curves.n_layer),
                .y = plot::percent_axis(""),
                .lines = {line}};
    const eval::Tally& full = curves.full;
    if (full.asked > 0) {
        const eval::Interval interval = eval::wilson(full.right, full.asked);
        chart.reference = {.y = full.share(),
                           .interval = {{interval.low, interval.high}},
                           .name = format("FullKV %d of %d", full.right, full.asked)};
    }
    return chart;
}

}  // namespace

std::string plot_svg(const Curves& curves) {
    std::vector<Chart> charts = {distance_chart(curves), answer_chart(curves)};
    for (Chart& chart : charts) {
        chart.width = width;
        chart.height = height;
        if (curves.chosen >= 0) chart.chosen_x = curves.chosen;
    }
    return plot::draw_charts(curves.title, {}, charts, plot::Target::svg);
}

}  // namespace fastkv::tune
