// Numbers that are the same on every machine, which those of the standard library's distributions are not.
#pragma once

#include <cstdint>

#include "model/fnv1a.h"

namespace fastkv::eval {

/// SplitMix64 (Steele, Lea, Flood 2014).
class Random {
  public:
    explicit Random(uint64_t seed) : state_(seed) {}

    uint64_t next() {
        state_ += 0x9E3779B97F4A7C15u;
        uint64_t z = state_;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        return z ^ (z >> 31);
    }

    /// In [0, n). The bias of the remainder is below 2^-40 for the small n here.
    uint64_t below(uint64_t n) { return next() % n; }

    /// In [0, 1).
    double unit() { return double(next() >> 11) * 0x1p-53; }

  private:
    uint64_t state_;
};

using fastkv::fnv1a;
using fastkv::hex_text;

}  // namespace fastkv::eval
