// Files that are whole or not there, also when the process is killed or the machine loses power.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace fastkv {

/// Writes under a temporary name in the same folder (".NAME.<number>.part"), waits until it is on the disk, renames it,
/// and waits until the folder is. Throws Error(failure) naming the file; then what stood there before still does.
void write_durably(const std::string& path, std::span<const std::byte> bytes);

/// The first `limit` bytes of a file, or all. Throws Error(failure) naming it.
std::vector<std::byte> read_bytes(const std::string& path, uint64_t limit = UINT64_MAX);

}  // namespace fastkv
