// What a server counts, as Prometheus reads it. Names are llama.cpp's, behind "fastkv:".
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

namespace fastkv::server {

struct Metrics {
    std::atomic<int64_t> prompt_tokens = 0, cached_tokens = 0, predicted_tokens = 0;
    std::atomic<double> prompt_seconds = 0, predicted_seconds = 0;
    std::atomic<int64_t> answered = 0, cancelled = 0, failed = 0;  ///< requests
};

/// What there is at the moment.
struct MetricsNow {
    int processing = 0, deferred = 0;  ///< requests at work and waiting
    int sessions = 0;                  ///< stored
    uint64_t session_bytes = 0;        ///< of those in memory
};

std::string metrics_text(const Metrics& metrics, const MetricsNow& now);

}  // namespace fastkv::server
