// Where and when something was measured.
#pragma once

#include <string>

namespace fastkv::cli {

/// As the system names the processor; "unknown" where it does not.
std::string cpu_name();

/// "2026-02-03T04:05:06Z"
std::string utc_time();

}  // namespace fastkv::cli
