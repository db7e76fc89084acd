#include "plot/heat_map.h"

#include <algorithm>
#include <array>
#include <string>

#include "text/format.h"

namespace fastkv::plot {

namespace {

// In pixels.
constexpr double cell_height = 34, gap = 1, left = 76, right = 92, bottom = 62, title_height = 46, note_height = 15,
                 note_letter = 6, title_letter = 9;
constexpr Color cell_ink{0.1, 0.1, 0.1}, no_score{0.8, 0.8, 0.8};

std::string length_text(int length) {
    return length % 1000 == 0 ? std::to_string(length / 1000) + "K" : std::to_string(length);
}

std::string score_text(double score) { return text::format("%.2f", score); }

double cell_width_of(const HeatMap& map) {
    return std::clamp(640.0 / double(std::max<size_t>(1, map.lengths.size())), 44.0, 120.0);
}

double width_of(const HeatMap& map) {
    const double grid = left + cell_width_of(map) * double(map.lengths.size()) + right;
    const double title = left + title_letter * double(map.title.size());
    return std::max({grid, title, map.note.empty() ? 0 : 620.0});
}

// Lines that fit the picture's width.
std::vector<std::string> note_lines(const HeatMap& map) {
    const auto width = size_t((width_of(map) - left - 10) / note_letter);
    const std::string& note = map.note;
    std::vector<std::string> lines;
    for (size_t from = 0; from < note.size();) {
        size_t end = note.size();
        if (note.size() - from > width) {
            end = note.rfind(" --", from + width);
            if (end == std::string::npos || end <= from) end = std::min(note.find(" --", from), note.size());
        }
        lines.push_back(note.substr(from, end - from));
        from = std::min(note.size(), end + 1);
    }
    return lines;
}

struct Layout {
    std::vector<std::string> notes;
    double cell_width, width, top;
    size_t n_columns, n_rows;

    explicit Layout(const HeatMap& map)
        : notes(note_lines(map)),
          cell_width(cell_width_of(map)),
          width(width_of(map)),
          top(title_height + note_height * double(notes.size())),
          n_columns(map.lengths.size()),
          n_rows(map.depths.size()) {}

    double x(size_t column) const { return left + cell_width * double(column); }
    double y(size_t row) const { return top + cell_height * double(row); }
    double height() const { return y(n_rows) + bottom; }
};

void draw_cells(Canvas& canvas, const Layout& at, const HeatMap& map) {
    for (size_t row = 0; row < at.n_rows; ++row) {
        for (size_t column = 0; column < at.n_columns; ++column) {
            const std::optional<double> score = map.scores[row][column];
            const std::string shown = score ? score_text(*score) : "–";
            canvas.begin_group(text::format("%d tokens, depth %d %%: %s", map.lengths[column], map.depths[row],
                                            score ? shown.c_str() : "no score"));
            canvas.rectangle(at.x(column), at.y(row), at.cell_width - gap, cell_height - gap,
                             score ? score_color(*score) : no_score);
            canvas.text(at.x(column) + at.cell_width / 2, at.y(row) + cell_height / 2 + 4, shown,
                        {.size = 11, .anchor = Anchor::middle, .paint = cell_ink});
            canvas.end_group();
        }
    }
}

void draw_axes(Canvas& canvas, const Layout& at, const HeatMap& map) {
    for (size_t row = 0; row < at.n_rows; ++row) {
        canvas.text(left - 8, at.y(row) + cell_height / 2 + 4, std::to_string(map.depths[row]),
                    {.anchor = Anchor::end});
    }
    for (size_t column = 0; column < at.n_columns; ++column) {
        canvas.text(at.x(column) + at.cell_width / 2, at.y(at.n_rows) + 18, length_text(map.lengths[column]),
                    {.anchor = Anchor::middle});
    }
    canvas.text((left + at.x(at.n_columns)) / 2, at.y(at.n_rows) + 42, "length (tokens)",
                {.size = 13, .anchor = Anchor::middle});
    canvas.text(24, (at.top + at.y(at.n_rows)) / 2, "depth (%)",
                {.size = 13, .anchor = Anchor::middle, .turned = true});
}

void draw_scale(Canvas& canvas, const Layout& at) {
    constexpr int n_steps = 100;
    const double x = at.x(at.n_columns) + 24, height = (at.y(at.n_rows) - gap - at.top) / n_steps;
    for (int i = 0; i < n_steps; ++i) {
        // A little taller than the step, so that no seam shows.
        canvas.rectangle(x, at.top + height * i, 14, height + (i + 1 < n_steps ? 0.6 : 0),
                         score_color(1 - (i + 0.5) / n_steps));
    }
    for (const double score : {0.0, 0.5, 1.0}) {
        canvas.text(x + 20, at.top + height * n_steps * (1 - score) + 4, score_text(score), {.size = 11});
    }
}

}  // namespace

Color score_color(double score) {
    // The three colours that such pictures have had since the first of them.
    constexpr std::array<Color, 3> colors = {
        Color{0xF0 / 255.0, 0x49 / 255.0, 0x6E / 255.0},  //
        Color{0xEB / 255.0, 0xB8 / 255.0, 0x39 / 255.0},  //
        Color{0x0C / 255.0, 0xD7 / 255.0, 0x9F / 255.0},
    };
    const double at = 2 * std::clamp(score, 0.0, 1.0);
    const size_t from = at < 1 ? 0 : 1;
    const double share = at - double(from);
    const Color &a = colors[from], &b = colors[from + 1];
    return {a.red + share * (b.red - a.red), a.green + share * (b.green - a.green), a.blue + share * (b.blue - a.blue)};
}

std::string draw_heat_map(const HeatMap& map, Target target) {
    const Layout at(map);
    const auto canvas = make_canvas(target, at.width, at.height(), map.title);
    canvas->text(left, 30, map.title, {.size = 16});
    for (size_t i = 0; i < at.notes.size(); ++i) {
        canvas->text(left, title_height + note_height * double(i), at.notes[i], {.size = 10});
    }
    draw_cells(*canvas, at, map);
    draw_axes(*canvas, at, map);
    draw_scale(*canvas, at);
    return canvas->finish();
}

}  // namespace fastkv::plot
