#include "eval/ruler_fit.h"

#include <algorithm>

#include "fastkv/error.h"

namespace fastkv::eval {

int Fit::largest(int least, int most, const std::function<std::string(int)>& build) const {
    int fits = least, n_fits = count(build(least));
    if (n_fits > n_tokens) {
        refuse("too short for this task, whose prompt takes at least " + std::to_string(n_fits));
    }
    if (probes) return least;
    // Tokens are nearly proportional to units: a step goes where the price so far says, or between a number that fits
    // and one that does not, where the straight line says.
    int too_many = most + 1, n_too_many = 0;  // the latter 0 until something did not fit
    double price = 1;
    for (int tries = 1; fits + 1 < too_many; ++tries) {
        const double room = n_tokens - n_fits;
        double step = std::min(0.98 * room / price, 1e9);
        if (n_too_many > 0) step = room * (too_many - fits) / (n_too_many - n_fits);
        if (n_too_many > 0 && tries % 4 == 0) step = (too_many - fits) / 2.0;
        const int next = std::clamp(fits + int(step), fits + 1, too_many - 1);
        const int n = count(build(next));
        if (n > n_tokens) {
            too_many = next;
            n_too_many = n;
        } else {
            price = std::max(0.1, double(n - n_fits) / (next - fits));
            fits = next;
            n_fits = n;
        }
    }
    return fits;
}

}  // namespace fastkv::eval
