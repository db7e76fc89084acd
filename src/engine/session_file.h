// A session's file: what stands in it, and when it is refused.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "engine/session_state.h"

namespace fastkv {

// preamble  magic "fastkvS\n", format, the version of fastkv that wrote it, sizes and checksums (XXH3, 64 bits) of:
// head      model hash, method, cache types, tokens, the caller's note
// body      everything else
//
// Numbers are little-endian. The head can be read alone, for a list of many files.

/// What a session's file contains.
std::vector<std::byte> session_file(const SessionState& state, const std::string& model_hash, int rewindable_to,
                                    const std::string& note);

struct SessionHead {
    std::string model_hash;
    std::string method;               // with its parameters, resolved, by name:
    std::vector<std::string> params;  // "retain_rate", "0.1", ...
    int32_t type_k = 0, type_v = 0;   // CacheType
    std::vector<Token> tokens;
    int32_t rewindable_to = 0;
    std::string note;

    /// Throws Error(failure), naming `source`, where this fastkv does not know one of the parameters.
    MethodParams method_params(const std::string& source) const;
};

/// The head, of which `bytes` is at least the beginning of the file. Throws Error(failure), naming `source`: a file of
/// something else or of another format, one that is cut short or damaged.
SessionHead read_session_head(std::span<const std::byte> bytes, const std::string& source);

/// All of it, checked against the model (check_state()). Throws as above, and for one of another model.
SessionState read_session_file(std::span<const std::byte> bytes, const HyperParams& hparams,
                               const std::string& model_hash, const std::string& source);

/// Sets the checksums to those of what `file` contains, which must be as long as session_file() made it; what is cut
/// too short for that stays as it is. Tests damage files and seal them again.
void seal_session_file(std::span<std::byte> file);

/// How many bytes at the beginning of the file the head takes; 0 where that cannot be told from the first
/// `session_preamble_size` of them.
uint64_t session_head_end(std::span<const std::byte> preamble);
inline constexpr size_t session_preamble_size = 64;

}  // namespace fastkv
