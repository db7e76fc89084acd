// What stands along the edges of a chart.
#pragma once

#include <string>
#include <vector>

namespace fastkv::plot {

struct Tick {
    double at;
    std::string label;
};

struct Axis {
    std::string name;
    double low = 0, high = 1;
    std::vector<Tick> ticks;
    bool logarithmic = false;

    /// Where a value stands, as a share of the way from `low` to `high`.
    double share(double value) const;
};

/// Layers or anything else that is counted from 0, `count` of them.
Axis counting_axis(const std::string& name, int count);

/// Shares of 1 as percent, from `low` to `high`.
Axis percent_axis(const std::string& name, double low = 0, double high = 1);

/// From 0 to past the largest value.
Axis linear_axis(const std::string& name, const std::vector<double>& values);

/// Around the values that are above 0; powers of ten and, where those are few, multiples of them.
Axis logarithmic_axis(const std::string& name, const std::vector<double>& values);

/// Lengths in tokens, logarithmic where they spread wide: a tick for each.
Axis length_axis(const std::string& name, const std::vector<double>& lengths);

}  // namespace fastkv::plot
