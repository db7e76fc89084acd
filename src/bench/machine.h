// What a measurement was taken on, and when.
#pragma once

#include <string>

namespace fastkv::bench {

/// The processor's own name, "" where the system does not say.
std::string cpu_name();

/// "2026-02-03T04:05:06Z"
std::string utc_time();

}  // namespace fastkv::bench
