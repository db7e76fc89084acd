#include "eval/ruler_fit.h"

#include <algorithm>

#include "fastkv/error.h"

namespace fastkv::eval {

int Fit::largest(int least, int most, const std::function<std::string(int)>& build) const {
    int fits = least, n_fits = count(build(least));
    if (n_fits > n_tokens) {
        refuse("a prompt of " + std::to_string(n_tokens) + " tokens is too short for this task: it takes at least " +
               std::to_string(n_fits));
    }
    // Growing by what is missing at the units' price so far; halving where that has gone too far.
    int too_many = most + 1;
    int step = 1;
    while (fits + 1 < too_many) {
        const int next = std::min(fits + std::max(1, step), too_many - 1);
        const int n = count(build(next));
        if (n > n_tokens) {
            too_many = next;
            step = (too_many - fits) / 2;
            continue;
        }
        const double price = std::max(0.25, double(n - n_fits) / (next - fits));
        step = std::max(1, int(0.98 * (n_tokens - n) / price));
        fits = next;
        n_fits = n;
    }
    return fits;
}

}  // namespace fastkv::eval
