#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "fastkv/error.h"
#include "fastkv/model.h"
#include "model/fnv1a.h"

namespace fastkv {

namespace {

std::string read_part(std::ifstream& file, uint64_t from, uint64_t length) {
    std::string part(size_t(length), '\0');
    file.seekg(std::streamoff(from));
    file.read(part.data(), std::streamsize(length));
    return part;
}

}  // namespace

std::string model_hash(const std::string& path) {
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    const auto size = file ? uint64_t(file.tellg()) : 0;
    const uint64_t part = std::min<uint64_t>(size, 1 << 20);
    uint64_t hash = fnv1a(std::to_string(size));
    for (const uint64_t from : {uint64_t{0}, (size - part) / 2, size - part}) {
        if (file) hash = fnv1a(read_part(file, from, part), hash);
    }
    if (!file) fail(path + ": cannot read: " + std::strerror(errno));
    return hex_text(hash);
}

}  // namespace fastkv
