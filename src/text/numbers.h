// Numbers as people read them.
#pragma once

#include <cstdint>
#include <string>

namespace fastkv::text {

std::string bytes_text(uint64_t bytes);    ///< "8.2 MiB"
std::string count_text(int64_t count);     ///< "3,512"
std::string seconds_text(double seconds);  ///< "0.42 s", "3 min 20 s"

}  // namespace fastkv::text
