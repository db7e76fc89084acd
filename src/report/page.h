// The report: one HTML page that needs nothing else.
#pragma once

#include <string>

#include "report/results.h"

namespace fastkv::report {

/// What the page says of itself.
struct PageFacts {
    std::string folder;   ///< that was read
    std::string time;     ///< ISO 8601, UTC
    std::string version;  ///< of fastkv
};

/// Self-contained: style, script and pictures are within it, and it reads without the script. Everything that came from
/// files is escaped.
std::string page(const Results& results, const PageFacts& facts);

}  // namespace fastkv::report
