#include "plot/axis.h"

#include <algorithm>
#include <cmath>

#include "text/format.h"

namespace fastkv::plot {

namespace {

using text::format;

/// A step of 1, 2 or 5 times a power of ten that makes about `wanted` of them.
double round_step(double range, double wanted) {
    const double raw = range / wanted, power = std::pow(10, std::floor(std::log10(raw)));
    for (const double factor : {1.0, 2.0, 5.0}) {
        if (factor * power >= raw * (1 - 1e-9)) return factor * power;
    }
    return 10 * power;
}

std::vector<double> positive(const std::vector<double>& values) {
    std::vector<double> found;
    for (const double value : values) {
        if (value > 0 && std::isfinite(value)) found.push_back(value);
    }
    return found;
}

}  // namespace

double Axis::share(double value) const {
    if (!logarithmic) return (value - low) / (high - low);
    return std::log(std::max(value, low * 1e-3) / low) / std::log(high / low);
}

Axis counting_axis(const std::string& name, int count) {
    Axis axis{.name = name, .low = -0.5, .high = std::max(1, count) - 0.5, .ticks = {}};
    const int step = std::max(1, (count + 15) / 16);
    for (int i = 0; i < count; i += step) axis.ticks.push_back({double(i), std::to_string(i)});
    return axis;
}

Axis percent_axis(const std::string& name, double low, double high) {
    Axis axis{.name = name, .low = low, .high = high, .ticks = {}};
    const double step = round_step(high - low, 5);
    for (double at = std::max(0.0, step * std::ceil(low / step - 1e-6)); at <= high + step / 1e3; at += step) {
        axis.ticks.push_back({at, format("%.0f %%", 100 * at)});
    }
    return axis;
}

Axis linear_axis(const std::string& name, const std::vector<double>& values) {
    const std::vector<double> found = positive(values);
    const double most = found.empty() ? 1 : *std::max_element(found.begin(), found.end());
    const double step = round_step(most, 5);
    Axis axis{.name = name, .low = 0, .high = step * std::ceil(1.06 * most / step), .ticks = {}};
    for (double at = 0; at <= axis.high + step / 1e3; at += step) axis.ticks.push_back({at, format("%g", at)});
    return axis;
}

Axis logarithmic_axis(const std::string& name, const std::vector<double>& values) {
    std::vector<double> found = positive(values);
    if (found.empty()) found = {0.1, 1};
    const auto [least, most] = std::minmax_element(found.begin(), found.end());
    Axis axis{.name = name, .low = *least / 1.25, .high = *most * 1.25, .ticks = {}, .logarithmic = true};
    const double range = axis.high / axis.low;
    std::vector<double> factors = {1};
    if (range < 300) factors = {1, 2, 5};
    if (range < 8) factors = {1, 1.5, 2, 3, 4, 5, 7};
    for (double power = std::floor(std::log10(axis.low)); power <= std::log10(axis.high); ++power) {
        for (const double factor : factors) {
            const double at = factor * std::pow(10, power);
            if (at < axis.low || at > axis.high) continue;
            axis.ticks.push_back({at, format("%g", at)});
        }
    }
    return axis;
}

Axis length_axis(const std::string& name, const std::vector<double>& lengths) {
    std::vector<double> found = positive(lengths);
    std::sort(found.begin(), found.end());
    found.erase(std::unique(found.begin(), found.end()), found.end());
    if (found.empty()) found = {1};
    Axis axis{.name = name, .low = found.front() / 1.15, .high = found.back() * 1.15, .ticks = {}, .logarithmic = true};
    double last = -1;
    for (const double at : found) {
        if (axis.share(at) - last < 0.07) continue;  // labels would touch
        last = axis.share(at);
        const bool thousands = std::fmod(at, 1000) == 0;
        axis.ticks.push_back({at, thousands ? format("%gK", at / 1000) : format("%g", at)});
    }
    return axis;
}

}  // namespace fastkv::plot
