#include "eval/random_values.h"

#include <cstdio>

namespace fastkv::eval {

std::string random_number(Random& random) { return std::to_string(1000000 + random.below(9000000)); }

std::string random_uuid(Random& random) {
    const uint64_t high = (random.next() & ~uint64_t{0xF000}) | 0x4000;
    const uint64_t low = (random.next() >> 2) | (uint64_t{1} << 63);
    char text[37];
    std::snprintf(text, sizeof text, "%08x-%04x-%04x-%04x-%012llx", unsigned(high >> 32), unsigned(high >> 16) & 0xFFFF,
                  unsigned(high) & 0xFFFF, unsigned(low >> 48), static_cast<unsigned long long>(low & 0xFFFFFFFFFFFFu));
    return text;
}

}  // namespace fastkv::eval
