#include "tune/statistics.h"

#include <algorithm>
#include <cmath>

namespace fastkv::tune {

namespace {

constexpr double z_two_sided = 1.959964;  // 95 %
constexpr double z_one_sided = 1.644854;

}  // namespace

Interval wilson(int right, int asked) {
    if (asked <= 0) return {};
    const double n = asked, p = right / n, z2 = z_two_sided * z_two_sided;
    const double centre = (p + z2 / (2 * n)) / (1 + z2 / n);
    const double half = z_two_sided / (1 + z2 / n) * std::sqrt(p * (1 - p) / n + z2 / (4 * n * n));
    // The ends of [0, 1] exactly, not but for rounding.
    return {right == 0 ? 0 : centre - half, right == asked ? 1 : centre + half};
}

Interval paired_difference(const Tally& tally) {
    const double n = tally.asked + 2.0;
    const double lost = (tally.lost + 1) / n, gained = (tally.gained + 1) / n;
    const double difference = gained - lost;
    const double half = z_two_sided * std::sqrt((lost + gained - difference * difference) / n);
    return {std::max(-1.0, difference - half), std::min(1.0, difference + half)};
}

bool within_noise(const Tally& tally) {
    return tally.lost - tally.gained <= z_one_sided * std::sqrt(double(tally.lost + tally.gained));
}

}  // namespace fastkv::tune
