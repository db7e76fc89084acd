// --trace: what a run kept, propagated, computed and said, as JSON. Other tools rely on the names.
#pragma once

#include <string>

#include "cli/answer.h"
#include "fastkv/fastkv.h"

namespace fastkv::cli {

/// A file that comes to be whole or not at all.
class TraceFile {
  public:
    /// Checks at once that `path` can be written, by creating and removing a file beside it. Throws Error(failure).
    explicit TraceFile(const std::string& path);

    /// Writes under a temporary name and renames. Throws Error(failure).
    void write(const std::string& content) const;

  private:
    std::string path_;       // with links followed
    std::string temporary_;  // in the same folder; empty where `path` is a device or a pipe, written directly
};

/// The trace as JSON text.
std::string trace_json(const Model& model, const Session& session, const SamplerParams& sampler, const Answer& answer);

}  // namespace fastkv::cli
