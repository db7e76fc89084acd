// A hash that names contents and guards nothing: FNV-1a, 64 bits.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace fastkv {

/// `hash` goes on from an earlier part.
inline uint64_t fnv1a(std::string_view bytes, uint64_t hash = 0xCBF29CE484222325u) {
    for (const char byte : bytes) hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001B3u;
    return hash;
}

/// As 16 hexadecimal digits.
inline std::string hex_text(uint64_t hash) {
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash));
    return text;
}

}  // namespace fastkv
