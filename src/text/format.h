// printf into a string.
#pragma once

#include <string>

namespace fastkv::text {

[[gnu::format(printf, 1, 2)]] std::string format(const char* pattern, ...);

}  // namespace fastkv::text
