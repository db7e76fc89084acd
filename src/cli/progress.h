// A line on the terminal that says how far the prefill has come. Nothing where stderr is not a terminal.
#pragma once

#include "fastkv/session.h"

namespace fastkv::cli {

class ProgressBar {
  public:
    ProgressBar();
    ~ProgressBar() { clear(); }
    ProgressBar(const ProgressBar&) = delete;
    ProgressBar& operator=(const ProgressBar&) = delete;

    /// Draws, at most ten times a second.
    void show(const PrefillProgress& progress);

    /// Takes the line away again.
    void clear();

  private:
    bool enabled_ = false;
    bool drawn_ = false;
    double last_draw_ = -1;  // seconds since the prefill began
};

/// True if a person looks at stderr.
bool stderr_is_terminal();

}  // namespace fastkv::cli
