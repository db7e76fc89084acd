// Aligned memory that only ever grows: packed operands and the scratch of one thread.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fastkv::kernels {

constexpr int round_up(int value, int step) { return (value + step - 1) / step * step; }

/// Uninitialised memory on a cache line's boundary.
class AlignedBuffer {
  public:
    static constexpr size_t cache_line = 64;

    AlignedBuffer() = default;
    explicit AlignedBuffer(size_t bytes) { reserve(bytes); }

    /// Makes room for `bytes`. What was there is lost when the buffer has to grow.
    /// Throws std::bad_alloc when there is no memory.
    void reserve(size_t bytes) {
        if (bytes <= capacity_) {
            return;
        }
        // Huge pages spare the page faults and the TLB misses of weights that are read from end to end.
        const size_t alignment = bytes >= huge_page ? huge_page : cache_line;
        const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
        memory_.reset();
        capacity_ = 0;
        memory_.reset(static_cast<std::byte*>(std::aligned_alloc(alignment, rounded)));
        if (!memory_) {
            throw std::bad_alloc();
        }
#if defined(__linux__)
        if (alignment == huge_page) {
            madvise(memory_.get(), rounded, MADV_HUGEPAGE);  // a hint: a refusal changes nothing
        }
#endif
        capacity_ = rounded;
    }

    std::byte* data() const { return memory_.get(); }
    size_t bytes() const { return capacity_; }

    template <typename T>
    T* as() const {
        return reinterpret_cast<T*>(memory_.get());
    }

    /// Makes room for `count` values and returns the first.
    template <typename T>
    T* reserve_as(size_t count) {
        reserve(count * sizeof(T));
        return as<T>();
    }

  private:
    static constexpr size_t huge_page = size_t{2} << 20;

    struct Free {
        void operator()(std::byte* memory) const { std::free(memory); }
    };
    std::unique_ptr<std::byte, Free> memory_;
    size_t capacity_ = 0;
};

/// This thread's memory for what is large and lasts for one call of a kernel: rows on their way into products, scores.
/// A kernel that holds it calls none that does.
inline AlignedBuffer& thread_scratch() {
    static thread_local AlignedBuffer memory;
    return memory;
}

}  // namespace fastkv::kernels
