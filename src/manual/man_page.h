// fastkv(1): one page for the command and all that stands behind it.
#pragma once

#include <string>

#include "manual/command.h"

namespace fastkv::manual {

/// The page in troff's man macros. `version` is the program's, `date` the page's.
std::string man_page(const Command& command, const std::string& version, const std::string& date);

}  // namespace fastkv::manual
