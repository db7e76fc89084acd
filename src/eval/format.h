// printf into a string.
#pragma once

#include <string>

namespace fastkv::eval {

[[gnu::format(printf, 1, 2)]] std::string format(const char* pattern, ...);

}  // namespace fastkv::eval
