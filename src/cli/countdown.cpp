#include "cli/countdown.h"

#include <algorithm>

#include "cli/text.h"

namespace fastkv::cli {

namespace {

constexpr size_t bar_length = 20;

std::string bar(double share) {
    const size_t filled = std::min(bar_length, size_t(share * double(bar_length)));
    std::string text = "[";
    text.append(filled, '=').append(bar_length - filled, ' ').append("] ");
    return text;
}

}  // namespace

void Countdown::show(const std::string& what) {
    if (!line_.due()) return;
    std::string text = expected_ > 0 ? bar(done_ / expected_) + what : what;
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    if (done_ > 0 && expected_ > done_) {
        text += ", " + seconds_text(std::max(1.0, seconds * (expected_ - done_) / done_)) + " left";
    }
    line_.show(text);
}

}  // namespace fastkv::cli
