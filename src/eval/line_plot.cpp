#include "eval/line_plot.h"

#include <algorithm>
#include <array>

namespace fastkv::eval {

namespace {

// In pixels.
constexpr double left = 64, plot_width = 506, plot_height = 300, bottom = 56, title_height = 46, note_height = 15,
                 legend = left + plot_width + 16, legend_step = 20, letter = 7.2;
constexpr Color grid{0.6, 0.6, 0.6};

/// Colours that people with any colour vision tell apart (Okabe and Ito 2008), without the yellow, which light pages
/// swallow.
constexpr std::array<Color, 7> colors = {Color{0.00, 0.45, 0.70}, Color{0.84, 0.37, 0.00}, Color{0.00, 0.62, 0.45},
                                         Color{0.80, 0.47, 0.65}, Color{0.34, 0.71, 0.91}, Color{0.90, 0.62, 0.00},
                                         Color{0.50, 0.50, 0.50}};

struct Layout {
    double top, width = legend + 60;
    size_t n_point = 1;

    explicit Layout(const LinePlot& plot) : top(title_height + note_height * double(plot.notes.size())) {
        for (const auto& line : plot.lines) {
            n_point = std::max(n_point, line.values.size());
            width = std::max(width, legend + 40 + letter * double(line.name.size()));
        }
    }
    double x(double point) const { return left + plot_width * (point + 0.5) / double(n_point); }
    double y(double value) const { return top + plot_height * (1 - value); }
    double height(size_t n_line) const { return top + std::max(plot_height, legend_step * double(n_line)) + bottom; }
};

void draw_axes(Canvas& canvas, const Layout& at, const LinePlot& plot) {
    for (const int percent : {0, 20, 40, 60, 80, 100}) {
        const double y = at.y(percent / 100.0);
        canvas.line(left, y, left + plot_width, y, 0.5, grid);
        canvas.text(left - 8, y + 4, 12, Anchor::end, std::to_string(percent) + " %");
    }
    const size_t step = (at.n_point + 15) / 16;
    for (size_t point = 0; point < at.n_point; point += step) {
        canvas.text(at.x(double(point)), at.y(0) + 18, 12, Anchor::middle, std::to_string(point));
    }
    canvas.text(left + plot_width / 2, at.y(0) + 42, 13, Anchor::middle, plot.x_name);
}

void draw_curve(Canvas& canvas, const Layout& at, const std::vector<double>& values, double thickness, Color color,
                bool dashed) {
    for (size_t i = 0; i + 1 < values.size(); ++i) {
        canvas.line(at.x(double(i)), at.y(values[i]), at.x(double(i + 1)), at.y(values[i + 1]), thickness, color,
                    dashed);
    }
}

}  // namespace

std::string draw_line_plot(const LinePlot& plot, bool png) {
    const Layout at(plot);
    const double height = at.height(plot.lines.size());
    const auto canvas = png && can_draw_png() ? png_canvas(at.width, height) : svg_canvas(at.width, height);
    canvas->text(left, 30, 16, Anchor::start, plot.title);
    for (size_t i = 0; i < plot.notes.size(); ++i) {
        canvas->text(left, title_height + note_height * double(i), 10, Anchor::start, plot.notes[i]);
    }
    draw_axes(*canvas, at, plot);
    for (size_t i = 0; i < plot.lines.size(); ++i) {
        const Color color = colors[i % colors.size()];
        const bool dashed = i / colors.size() % 2 == 1;  // the second line of its colour
        draw_curve(*canvas, at, plot.lines[i].thin, 0.8, color, dashed);
        draw_curve(*canvas, at, plot.lines[i].values, 2.2, color, dashed);
        const double y = at.top + legend_step * (double(i) + 0.5);
        canvas->line(legend, y, legend + 24, y, 2.2, color, dashed);
        canvas->text(legend + 30, y + 4, 12, Anchor::start, plot.lines[i].name);
    }
    return canvas->finish();
}

}  // namespace fastkv::eval
