#include "server/stop_strings.h"

#include <algorithm>
#include <utility>

namespace fastkv::server {

std::string StopStrings::push(const std::string& text) {
    if (found_) return "";
    pending_ += text;
    size_t first = std::string::npos;
    for (const std::string& stop : stop_) first = std::min(first, pending_.find(stop));
    found_ = first != std::string::npos;
    const size_t shown = found_ ? first : pending_.size() - held_back();
    std::string front = pending_.substr(0, shown);
    pending_.erase(0, found_ ? std::string::npos : shown);
    return front;
}

/// Bytes at the end that a stop text could begin with.
size_t StopStrings::held_back() const {
    size_t most = 0;
    for (const std::string& stop : stop_) {
        for (size_t n = std::min(stop.size() - 1, pending_.size()); n > most; --n) {
            if (stop.starts_with(pending_.substr(pending_.size() - n))) most = n;
        }
    }
    return most;
}

std::string StopStrings::finish() { return std::exchange(pending_, ""); }

}  // namespace fastkv::server
