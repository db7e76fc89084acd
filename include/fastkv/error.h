// What every function of fastkv throws.
#pragma once

#include <stdexcept>
#include <string>

namespace fastkv {

/// Why a call could not be carried out. The command turns it into its exit code.
enum class ErrorKind {
    usage,      ///< the request itself is wrong (a rate of 7, a layer that does not exist): exit code 2
    failure,    ///< a right request failed (no such file, not enough memory): exit code 1
    cancelled,  ///< the caller's progress callback asked to stop: exit code 130
};

/// The only exception that fastkv throws on purpose. `what()` is one line that names the file, key or flag
/// and, where there is one, the way out.
class Error : public std::runtime_error {
  public:
    Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
    ErrorKind kind() const { return kind_; }

  private:
    ErrorKind kind_;
};

/// Throws a failure: the request was right, the world was not.
[[noreturn]] inline void fail(const std::string& message) { throw Error(ErrorKind::failure, message); }

/// Throws a usage error: the request was wrong.
[[noreturn]] inline void refuse(const std::string& message) { throw Error(ErrorKind::usage, message); }

}  // namespace fastkv
