// The methods of one comparison, as one line of text: "fullkv,fastkv:tsp_layer=14:retain_rate=0.1".
#pragma once

#include <string>
#include <vector>

#include "fastkv/method.h"

namespace fastkv::bench {

struct NamedMethod {
    std::string name;     ///< as it was written, to tell two settings of one method apart
    MethodParams params;  ///< as given
};

/// Reads the list. A parameter of `shared` goes to every method that has it, unless the list gives that method another
/// value. Throws Error(usage) for a method or a parameter that there is not, a parameter that its method ignores, and
/// one of `shared` that every method would ignore.
std::vector<NamedMethod> parse_methods(const std::string& text, const MethodParams& shared);

}  // namespace fastkv::bench
