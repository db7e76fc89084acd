#include "plot/labels.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace fastkv::plot {

namespace {

constexpr double letter = 6.9, above = 10, below = 4, marker_radius = 6;

Box box_of(const Label& label) {
    const double width = text_width(label.words);
    const double shift = label.anchor == Anchor::start ? 0 : label.anchor == Anchor::middle ? width / 2 : width;
    return {label.x - shift, label.y - above, label.x - shift + width, label.y + below};
}

double overlap(const Box& a, const Box& b) {
    const double width = std::min(a.right, b.right) - std::max(a.left, b.left);
    const double height = std::min(a.bottom, b.bottom) - std::max(a.top, b.top);
    return width > 0 && height > 0 ? width * height : 0;
}

/// Of the box, what is outside.
double outside(const Box& box, const Box& frame) {
    const double area = (box.right - box.left) * (box.bottom - box.top);
    return area - overlap(box, frame);
}

/// Beside the point, then above and below it, then the same further away.
std::vector<Label> candidates(const std::string& words, double x, double y) {
    std::vector<Label> places;
    for (const double away : {1.0, 2.6, 4.4, 6.2}) {
        const double side = 10 * away, up = 10 * away;
        const bool far = away > 1;
        if (!far) {
            places.push_back({words, x + side, y + 4, Anchor::start});
            places.push_back({words, x - side, y + 4, Anchor::end});
        }
        places.push_back({words, x, y - up, Anchor::middle, far});
        places.push_back({words, x, y + up + 8, Anchor::middle, far});
        places.push_back({words, x + 8, y - up, Anchor::start, far});
        places.push_back({words, x + 8, y + up + 8, Anchor::start, far});
        places.push_back({words, x - 8, y - up, Anchor::end, far});
        places.push_back({words, x - 8, y + up + 8, Anchor::end, far});
    }
    return places;
}

}  // namespace

double text_width(const std::string& words) {
    // Bytes that begin a character.
    const auto n = std::count_if(words.begin(), words.end(), [](char c) { return (c & 0xC0) != 0x80; });
    return letter * double(n);
}

std::vector<Label> place_labels(const std::vector<std::pair<double, double>>& points,
                                const std::vector<std::string>& names, const Box& frame, std::vector<Box> taken) {
    for (const auto& [x, y] : points) {
        taken.push_back({x - marker_radius, y - marker_radius, x + marker_radius, y + marker_radius});
    }
    std::vector<Label> labels;
    for (size_t i = 0; i < points.size(); ++i) {
        Label best;
        double least = std::numeric_limits<double>::infinity();
        for (const Label& place : candidates(names[i], points[i].first, points[i].second)) {
            const Box box = box_of(place);
            double cost = 4 * outside(box, frame);
            for (const Box& other : taken) cost += overlap(box, other);
            if (cost >= least) continue;
            least = cost;
            best = place;
        }
        taken.push_back(box_of(best));
        labels.push_back(best);
    }
    return labels;
}

std::vector<double> spread_heights(const std::vector<double>& wanted, double step, double low, double high) {
    std::vector<size_t> order(wanted.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return wanted[a] < wanted[b]; });
    std::vector<double> heights(wanted.size());
    double least = low;
    for (const size_t i : order) {
        heights[i] = std::max(wanted[i], least);
        least = heights[i] + step;
    }
    double most = high;  // back up, where the last ones stand too low
    for (auto i = order.rbegin(); i != order.rend(); ++i) {
        heights[*i] = std::max(low + step * double(order.rend() - i - 1), std::min(heights[*i], most));
        most = heights[*i] - step;
    }
    return heights;
}

}  // namespace fastkv::plot
