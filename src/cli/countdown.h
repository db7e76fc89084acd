// How far a long piece of work has come, and how long it will take.
#pragma once

#include <chrono>
#include <string>

#include "cli/progress.h"

namespace fastkv::cli {

/// "[=====>      ] questions 17 of 200, 4 min 20 s left", on a terminal.
class Countdown {
  public:
    /// Work in any unit, such as tokens of FullKV.
    void expect(double work) { expected_ += work; }
    void forget_expected() { expected_ = done_; }
    void did(double work) { done_ += work; }
    void did_so_far(double work) { done_ = work; }
    void show(const std::string& what);
    void clear() { line_.clear(); }

  private:
    StatusLine line_;
    double expected_ = 0, done_ = 0;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace fastkv::cli
