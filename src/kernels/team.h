// How the threads that compute one kernel share its work.
#pragma once

#include <atomic>

namespace fastkv::kernels {

/// The threads of one call of a kernel, which all call it with the same arguments. The kernel cuts its work into
/// pieces, the large ones first, and every thread takes the next when it is done with its last: one that is slower,
/// because another program wants its core or because it is a slower kind of core, takes fewer, and none waits for
/// longer than a small piece.
class Team {
  public:
    explicit Team(int n_thread) : n_thread_(n_thread) {}

    int n_thread() const { return n_thread_; }

    /// The next piece that nobody has taken yet: 0, 1, 2, …
    int take() { return next_.fetch_add(1, std::memory_order_relaxed); }

    /// Makes it the team of another call, which no thread has begun yet.
    void start_over() { next_.store(0, std::memory_order_relaxed); }

  private:
    int n_thread_;
    std::atomic<int> next_{0};
};

}  // namespace fastkv::kernels
