// How much haystack a prompt of a given length holds.
#pragma once

#include <functional>
#include <string>

namespace fastkv::eval {

struct Fit {
    int n_tokens = 0;                              ///< that the prompt may take
    std::function<int(const std::string&)> count;  ///< tokens of a prompt as the model reads it
    bool probes = false;                           ///< only whether anything fits: largest() returns `least`

    /// The most units from `least` to `most` with which `build` gives a prompt that fits; more units are more tokens.
    /// Throws Error(usage) where not even `least` fit.
    int largest(int least, int most, const std::function<std::string(int)>& build) const;
};

}  // namespace fastkv::eval
