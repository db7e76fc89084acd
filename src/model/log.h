// What ggml and libllama say: silent unless asked for, but kept as the reason for an error.
#pragma once

#include <string>

namespace fastkv {

/// Takes over the logs of ggml and libllama, once. They are dropped unless the environment variable
/// FASTKV_LOG is set to something or set_log_level(true) was called; then they go to stderr. Cheap to call
/// again.
void install_logs();

/// `verbose`: the libraries' logs go to stderr.
void set_log_level(bool verbose);

/// While it lives, remembers what the libraries report as errors on this thread.
class LogCapture {
  public:
    LogCapture();
    ~LogCapture();
    LogCapture(const LogCapture&) = delete;
    LogCapture& operator=(const LogCapture&) = delete;

    /// The first error, as one line without the library's function name; empty if there was none.
    std::string first_error() const;
    /// All of what was reported, for telling cases apart.
    const std::string& text() const { return text_; }

  private:
    friend struct LogSink;
    std::string text_;
    LogCapture* outer_;
};

}  // namespace fastkv
