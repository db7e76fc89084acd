// Results that are whole or not there.
#pragma once

#include <string>

namespace fastkv::cli {

/// A file that comes to be whole or not at all.
class WholeFile {
  public:
    /// Checks at once that `path` can be written, by creating and removing a file beside it; `flag`, which named it, is
    /// for messages. Throws Error(failure).
    WholeFile(const std::string& path, const std::string& flag);

    /// Writes under a temporary name and renames. Throws Error(failure).
    void write(const std::string& content) const;

  private:
    std::string shown_;      // "--trace out.json"
    std::string path_;       // with links followed
    std::string temporary_;  // in the same folder; empty where `path` is a device or a pipe, written directly
};

}  // namespace fastkv::cli
