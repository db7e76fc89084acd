// What a measurement was taken on.
#pragma once

#include <string>

namespace fastkv::bench {

/// The processor's own name, "" where the system does not say.
std::string cpu_name();

}  // namespace fastkv::bench
