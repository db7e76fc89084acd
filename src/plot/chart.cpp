#include "plot/chart.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "plot/labels.h"

namespace fastkv::plot {

namespace {

// In pixels.
constexpr double left = 66, bottom = 60, head_height = 46, note_height = 15, title_height = 26, no_head = 10,
                 names_gap = 16, sample_width = 24, names_step = 18, edge = 20;

/// A chart within its picture: `top` is the upper edge of its frame.
struct Place {
    const Chart& chart;
    double top;

    double right() const { return left + chart.width; }
    double low() const { return top + chart.height; }
    double x(double value) const { return left + chart.width * chart.x.share(value); }
    double y(double value) const {
        // What lies outside stands at the edge.
        return top + chart.height * (1 - std::clamp(chart.y.share(value), -0.01, 1.01));
    }
    Box frame() const { return {left, top, right(), low()}; }
};

double names_width(const Chart& chart) {
    double widest = 0;
    if (chart.names == Names::at_points) return edge;
    for (const ChartLine& line : chart.lines) widest = std::max(widest, text_width(line.name));
    return widest > 0 ? names_gap + sample_width + 6 + widest + 4 : edge;
}

/// Between the frames of two charts, and from the last one's to the end of the picture.
double height_of(const Chart& chart) {
    const auto named =
        std::count_if(chart.lines.begin(), chart.lines.end(), [](auto& line) { return !line.name.empty(); });
    const double names = chart.names == Names::at_ends ? names_step * double(named) : 0;
    return (chart.title.empty() ? 0 : title_height) + std::max(chart.height, names) + bottom;
}

void draw_axes(Canvas& canvas, const Place& at) {
    const auto& [title, x, y, lines, reference, chosen_x, names, width, height] = at.chart;
    if (!title.empty()) canvas.text(left, at.top - 10, title, {.size = 13, .bold = true});
    for (const Tick& tick : y.ticks) {
        canvas.line(left, at.y(tick.at), at.right(), at.y(tick.at), {.thickness = 0.5, .paint = Paint::grid()});
        canvas.text(left - 8, at.y(tick.at) + 4, tick.label, {.anchor = Anchor::end});
    }
    for (const Tick& tick : x.ticks) {
        canvas.line(at.x(tick.at), at.low(), at.x(tick.at), at.low() + 4, {.thickness = 0.8, .paint = Paint::grid()});
        canvas.text(at.x(tick.at), at.low() + 18, tick.label, {.anchor = Anchor::middle});
    }
    canvas.text(left + width / 2, at.low() + 42, x.name, {.size = 13, .anchor = Anchor::middle});
    canvas.text(16, at.top + height / 2, y.name, {.size = 13, .anchor = Anchor::middle, .turned = true});
}

void draw_reference(Canvas& canvas, const Place& at) {
    if (at.chart.chosen_x) {
        const double x = at.x(*at.chart.chosen_x);
        canvas.line(x, at.top, x, at.low(), {.thickness = 2, .paint = Paint::accent(), .dashed = true});
    }
    if (!at.chart.reference) return;
    const auto& [level, interval, name] = *at.chart.reference;
    const double y = at.y(level);
    if (interval) {
        const double high = at.y(interval->second);
        canvas.rectangle(left, high, at.chart.width, at.y(interval->first) - high, Paint::ink(), 0.08);
    }
    canvas.line(left, y, at.right(), y, {.thickness = 1.4, .opacity = 0.75});
    const bool low = y + 18 < at.low();
    canvas.text(at.right() - 6, low ? y + 15 : y - 6, name, {.anchor = Anchor::end});
}

void draw_marker(Canvas& canvas, Marker marker, double x, double y, const Paint& paint) {
    constexpr double r = 4.6;
    switch (marker) {
        case Marker::none: return;
        case Marker::circle: return canvas.circle(x, y, r, paint);
        case Marker::square: return canvas.rectangle(x - r + 0.4, y - r + 0.4, 2 * r - 0.8, 2 * r - 0.8, paint);
        case Marker::triangle:
            return canvas.polygon({{x, y - r - 1}, {x + r + 1, y + r - 0.5}, {x - r - 1, y + r - 0.5}}, paint);
        case Marker::diamond:
            return canvas.polygon({{x, y - r - 1.4}, {x + r + 1.4, y}, {x, y + r + 1.4}, {x - r - 1.4, y}}, paint);
        case Marker::inverted:
            return canvas.polygon({{x, y + r + 1}, {x + r + 1, y - r + 0.5}, {x - r - 1, y - r + 0.5}}, paint);
    }
}

void draw_line(Canvas& canvas, const Place& at, const ChartLine& line) {
    Points path;
    for (const ChartPoint& point : line.points) path.emplace_back(at.x(point.x), at.y(point.y));
    if (line.thickness > 0 && path.size() > 1) {
        canvas.polyline(path, {.thickness = line.thickness, .paint = line.paint, .dashed = line.dashed});
    }
    if (line.marker == Marker::none) return;
    for (size_t i = 0; i < path.size(); ++i) {
        const ChartPoint& point = line.points[i];
        const auto [x, y] = path[i];
        if (!point.title.empty()) canvas.begin_group(point.title);
        if (point.interval) {
            canvas.line(x, at.y(point.interval->first), x, at.y(point.interval->second),
                        {.thickness = 1.2, .paint = line.paint, .opacity = 0.45});
        }
        draw_marker(canvas, line.marker, x, y, line.paint);
        if (!point.title.empty()) canvas.end_group();
    }
}

/// Every line has one point.
void name_points(Canvas& canvas, const Place& at) {
    std::vector<std::pair<double, double>> points;
    std::vector<std::string> names;
    std::vector<Box> taken;  // lines that would go through the words
    const auto take_level = [&](double y) { taken.push_back({left, at.y(y) - 2, at.right(), at.y(y) + 2}); };
    for (const Tick& tick : at.chart.y.ticks) take_level(tick.at);
    if (at.chart.reference) take_level(at.chart.reference->y);
    for (const ChartLine& line : at.chart.lines) {
        if (line.name.empty() || line.points.empty()) continue;
        const ChartPoint& point = line.points[0];
        points.emplace_back(at.x(point.x), at.y(point.y));
        names.push_back(line.name);
        if (!point.interval) continue;
        const double x = at.x(point.x);
        taken.push_back({x - 1, at.y(point.interval->second), x + 1, at.y(point.interval->first)});
    }
    const std::vector<Label> labels = place_labels(points, names, at.frame(), taken);
    for (size_t i = 0; i < labels.size(); ++i) {
        const auto& [words, x, y, anchor, far] = labels[i];
        if (far) {
            canvas.line(points[i].first, points[i].second, x, y < points[i].second ? y + 3 : y - 10,
                        {.thickness = 0.7, .opacity = 0.5});
        }
        canvas.text(x, y, words, {.anchor = anchor});
    }
}

/// At the right, as high as the lines end where there is room.
void name_ends(Canvas& canvas, const Place& at) {
    std::vector<const ChartLine*> lines;
    std::vector<double> ends;
    for (const ChartLine& line : at.chart.lines) {
        if (line.name.empty() || line.points.empty()) continue;
        lines.push_back(&line);
        ends.push_back(at.y(line.points.back().y));
    }
    const auto heights = spread_heights(ends, names_step, at.top + 8, at.low() - 4);
    for (size_t i = 0; i < lines.size(); ++i) {
        const ChartLine& line = *lines[i];
        const double x = at.right() + names_gap, y = heights[i];
        canvas.line(x, y, x + sample_width, y,
                    {.thickness = line.thickness > 0 ? line.thickness : 1, .paint = line.paint, .dashed = line.dashed});
        draw_marker(canvas, line.marker, x + sample_width / 2, y, line.paint);
        canvas.text(x + sample_width + 6, y + 4, line.name, {});
    }
}

}  // namespace

Marker marker_of(int index) {
    constexpr std::array markers = {Marker::circle, Marker::square, Marker::triangle, Marker::diamond,
                                    Marker::inverted};
    return markers[size_t(index) % markers.size()];
}

namespace {

struct Heading {
    std::string title;
    std::vector<std::string> notes;
};

std::string draw(const std::vector<Chart>& charts, const Heading& heading, const std::string& name, Target target) {
    double top = heading.title.empty() ? no_head : head_height + note_height * double(heading.notes.size());
    double height = top, width = 0;
    for (const Chart& chart : charts) {
        height += height_of(chart);
        width = std::max(width, left + chart.width + names_width(chart));
    }
    const auto canvas = make_canvas(target, width, height, name);
    if (!heading.title.empty()) canvas->text(left, 30, heading.title, {.size = 16});
    for (size_t i = 0; i < heading.notes.size(); ++i) {
        canvas->text(left, head_height + note_height * double(i), heading.notes[i], {.size = 10});
    }
    for (const Chart& chart : charts) {
        const Place at{chart, top + (chart.title.empty() ? 0 : title_height)};
        draw_axes(*canvas, at);
        draw_reference(*canvas, at);
        for (const ChartLine& line : chart.lines) draw_line(*canvas, at, line);
        chart.names == Names::at_points ? name_points(*canvas, at) : name_ends(*canvas, at);
        top += height_of(chart);
    }
    return canvas->finish();
}

}  // namespace

std::string draw_chart(const Chart& chart, const std::string& name, Target target) {
    return draw({chart}, {}, name, target);
}

std::string draw_charts(const std::string& title, const std::vector<std::string>& notes,
                        const std::vector<Chart>& charts, Target target) {
    return draw(charts, {title, notes}, title, target);
}

}  // namespace fastkv::plot
