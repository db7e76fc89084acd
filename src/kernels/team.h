// How the threads that compute one kernel share its work.
#pragma once

#include <algorithm>
#include <atomic>
#include <climits>
#include <cstdint>

namespace fastkv::kernels {

/// Work of `n` steps, one behind the other, cut into pieces: three quarters of a thread's equal share of what is left,
/// so that the first are large, the last small, and all threads end at about the same time (guided self-scheduling,
/// Polychronopoulos and Kuck 1987). Where a piece ends follows from where it begins, not from who takes it. A thread
/// that is alone takes the largest pieces there may be.
struct Cut {
    int n = 0;
    int smallest = 1;       ///< steps of a piece, but the last
    int largest = INT_MAX;  ///< as well
    int multiple = 1;       ///< a piece is a multiple of so many steps, but the last, which takes what is left of less
                            ///< than half of one, too

    int end(int begin, int n_thread) const {
        const int left = n - begin;
        const int64_t share = n_thread == 1 ? left : int64_t{3} * left / (int64_t{4} * n_thread);
        const int64_t whole = (std::max<int64_t>(share, smallest) + multiple - 1) / multiple * multiple;
        const auto size = static_cast<int>(std::min<int64_t>(whole, largest));
        return 2 * (left - size) < multiple ? n : begin + size;
    }
};

/// Steps [begin, end) of a cut; none when all have been taken.
struct Piece {
    int begin = 0;
    int end = 0;

    explicit operator bool() const { return begin < end; }
};

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

    /// The next piece of a cut that nobody has taken yet. A call takes pieces of one cut, or by number.
    Piece take(const Cut& cut) {
        Piece piece{next_.load(std::memory_order_relaxed), cut.n};
        while (piece.begin < cut.n) {
            piece.end = cut.end(piece.begin, n_thread_);
            if (next_.compare_exchange_weak(piece.begin, piece.end, std::memory_order_relaxed)) break;
        }
        return piece;
    }

    /// Makes it the team of another call, which no thread has begun yet.
    void start_over() { next_.store(0, std::memory_order_relaxed); }

  private:
    int n_thread_;
    std::atomic<int> next_{0};
};

}  // namespace fastkv::kernels
