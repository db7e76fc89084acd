// Values to hide in a text.
#pragma once

#include <string>

#include "eval/random.h"

namespace fastkv::eval {

/// Seven digits, the first not 0.
std::string random_number(Random& random);

/// The form of a random UUID (RFC 4122, version 4).
std::string random_uuid(Random& random);

}  // namespace fastkv::eval
