#include "eval/statistics.h"

#include <algorithm>
#include <cmath>

namespace fastkv::eval {

namespace {

constexpr double z_two_sided = 1.959964;  // 95 %
constexpr double z_one_sided = 1.644854;

}  // namespace

Interval wilson(double right, double asked) {
    if (asked <= 0) return {};
    const double n = asked, p = right / n, z2 = z_two_sided * z_two_sided;
    const double centre = (p + z2 / (2 * n)) / (1 + z2 / n);
    const double half = z_two_sided / (1 + z2 / n) * std::sqrt(p * (1 - p) / n + z2 / (4 * n * n));
    // The ends of [0, 1] exactly, not but for rounding.
    return {right == 0 ? 0 : centre - half, right == asked ? 1 : centre + half};
}

Mean mean_of(const std::vector<double>& scores) {
    double sum = 0;
    for (const double score : scores) sum += score;
    const auto n = int(scores.size());
    return {n, n > 0 ? sum / n : 0, wilson(sum, n)};
}

Mean mean_of_values(const std::vector<double>& values) {
    Mean result{.n = int(values.size()), .mean = 0, .interval = {0, 0}};
    if (values.empty()) return result;
    for (const double value : values) result.mean += value / result.n;
    double squares = 0;
    for (const double value : values) squares += (value - result.mean) * (value - result.mean);
    const double half = result.n > 1 ? z_two_sided * std::sqrt(squares / (result.n - 1) / result.n) : 0;
    result.interval = {result.mean - half, result.mean + half};
    return result;
}

Mean mean_from_intervals(const std::vector<Mean>& means) {
    Mean all{.n = 0, .mean = 0, .interval = {0, 0}};
    double below = 0, above = 0;  // sums of squares
    int count = 0;
    for (const Mean& mean : means) {
        if (mean.n == 0) continue;
        ++count;
        all.n += mean.n;
        all.mean += mean.mean;
        below += (mean.mean - mean.interval.low) * (mean.mean - mean.interval.low);
        above += (mean.interval.high - mean.mean) * (mean.interval.high - mean.mean);
    }
    if (count == 0) return all;
    all.mean /= count;
    all.interval = {all.mean - std::sqrt(below) / count, all.mean + std::sqrt(above) / count};
    return all;
}

Mean mean_of_means(const std::vector<Mean>& means) {
    Mean all;
    double sum = 0, inverse = 0;
    int n_means = 0;
    for (const Mean& mean : means) {
        if (mean.n == 0) continue;
        ++n_means;
        all.n += mean.n;
        sum += mean.mean;
        inverse += 1.0 / mean.n;
    }
    if (n_means == 0) return all;
    all.mean = sum / n_means;
    const double n = n_means * n_means / inverse;
    all.interval = wilson(all.mean * n, n);
    return all;
}

Interval paired_difference(const Tally& tally) {
    const double n = tally.asked + 2.0;
    const double lost = (tally.lost + 1) / n, gained = (tally.gained + 1) / n;
    const double difference = gained - lost;
    const double half = z_two_sided * std::sqrt((lost + gained - difference * difference) / n);
    return {std::max(-1.0, difference - half), std::min(1.0, difference + half)};
}

Mean mean_difference(const std::vector<std::vector<double>>& groups) {
    Mean all{.n = 0, .mean = 0, .interval = {-1, 1}};
    double squares = 0, inverse = 0;
    int n_groups = 0;
    for (const std::vector<double>& group : groups) n_groups += group.empty() ? 0 : 1;
    for (const std::vector<double>& group : groups) {
        if (group.empty()) continue;
        const double weight = 1.0 / (n_groups * double(group.size()));
        all.n += int(group.size());
        inverse += 1.0 / double(group.size());
        for (const double difference : group) {
            all.mean += weight * difference;
            squares += weight * difference * difference;
        }
    }
    if (n_groups == 0) return all;
    // One prompt more that is lost, and one that is gained, as in paired_difference().
    const double n = n_groups * n_groups / inverse;
    const double centre = all.mean * n / (n + 2), square = (squares * n + 2) / (n + 2);
    const double half = z_two_sided * std::sqrt((square - centre * centre) / (n + 2));
    all.interval = {std::max(-1.0, centre - half), std::min(1.0, centre + half)};
    return all;
}

bool within_noise(const Tally& tally) {
    return tally.lost - tally.gained <= z_one_sided * std::sqrt(double(tally.lost + tally.gained));
}

}  // namespace fastkv::eval
