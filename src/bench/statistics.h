// What repeated measurements come to.
#pragma once

#include <span>

namespace fastkv::bench {

/// The middle one, of an even number the mean of the two in the middle; NaN of none.
double median(std::span<const double> samples);

/// Of a sample: the sum of squares over n - 1 (as Python's statistics.stdev and the reference's benchmarks); 0 of fewer
/// than two.
double standard_deviation(std::span<const double> samples);

}  // namespace fastkv::bench
