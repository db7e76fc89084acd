// Expanded matrices that stay for the next prompt.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>

#include "kernels/gemm.h"

struct ggml_tensor;

namespace fastkv {

/// What matrices of a model became when they were expanded. Sessions share it: whoever fills an entry, or asks for one,
/// holds lock().
class ExpandedStore {
  public:
    struct Entry {
        std::optional<kernels::PackedWeights> packed;
        bool filled = false;
    };

    std::unique_lock<std::mutex> lock() { return std::unique_lock(mutex_); }

    /// Of a weight; empty at first. Entries stay where they are for as long as the model lives.
    Entry& entry(const ggml_tensor* weight) { return entries_[weight]; }

    /// Of all entries.
    uint64_t bytes() {
        const auto locked = lock();
        uint64_t bytes = 0;
        for (const auto& [weight, entry] : entries_) bytes += entry.packed ? entry.packed->bytes() : 0;
        return bytes;
    }

  private:
    std::mutex mutex_;
    std::map<const ggml_tensor*, Entry> entries_;
};

}  // namespace fastkv
