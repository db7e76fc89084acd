// printf into a string.
#pragma once

#include "text/format.h"

namespace fastkv::eval {

using text::format;

}  // namespace fastkv::eval
