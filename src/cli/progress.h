// A line on the terminal that says how far the prefill has come. Nothing where stderr is not a terminal.
#pragma once

#include <chrono>
#include <string>

#include "fastkv/session.h"

namespace fastkv::cli {

/// One line of a terminal that is written over.
class StatusLine {
  public:
    StatusLine();
    ~StatusLine() { clear(); }
    StatusLine(const StatusLine&) = delete;
    StatusLine& operator=(const StatusLine&) = delete;

    /// True at most ten times a second, and never where there is no terminal.
    bool due() const;
    void show(const std::string& text);
    void clear();

  private:
    bool enabled_ = false;
    bool drawn_ = false;
    std::chrono::steady_clock::time_point last_draw_;
};

class ProgressBar {
  public:
    /// Draws, where it is due.
    void show(const PrefillProgress& progress);

    /// Takes the line away again.
    void clear() { line_.clear(); }

  private:
    StatusLine line_;
};

/// True if a person looks at stderr.
bool stderr_is_terminal();

}  // namespace fastkv::cli
