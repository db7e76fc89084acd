// "layer 12/30 [=======>      ] 41 %  1,404,928 of 3,420,160 rows  102,000 rows/s  20 s left"
#include "cli/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "cli/text.h"

namespace fastkv::cli {

namespace {

size_t terminal_width() {
    winsize size{};
    const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    return known ? size.ws_col : 80;
}

// The bar takes what the words leave of the line; StatusLine cuts what a narrow terminal cannot show.
std::string line_of(const PrefillProgress& progress, size_t width) {
    const double share = progress.rows_total > 0 ? double(progress.rows_done) / double(progress.rows_total) : 0;
    const double rows_per_second = progress.seconds > 0 ? double(progress.rows_done) / progress.seconds : 0;
    const std::string head = format("layer %d/%d ", std::min(progress.layer + 1, progress.n_layer), progress.n_layer);
    std::string tail = format(" %3.0f %%  %s of %s rows", 100 * share, count_text(progress.rows_done).c_str(),
                              count_text(progress.rows_total).c_str());
    if (rows_per_second > 0) {
        const double left = double(progress.rows_total - progress.rows_done) / rows_per_second;
        tail += format("  %s rows/s  %.0f s left", count_text(int64_t(rows_per_second)).c_str(), left);
    }
    const size_t words = head.size() + tail.size() + 2;
    std::string bar;
    if (width > words + 8) {
        const size_t length = std::min<size_t>(30, width - words - 1);
        const size_t filled = std::min(length, size_t(share * double(length)));
        bar = format("[%s%s]", std::string(filled, '=').c_str(), std::string(length - filled, ' ').c_str());
    }
    return head + bar + tail;
}

}  // namespace

bool stderr_is_terminal() { return isatty(STDERR_FILENO) == 1; }

StatusLine::StatusLine() {
    const char* terminal = std::getenv("TERM");
    enabled_ = stderr_is_terminal() && terminal != nullptr && std::string(terminal) != "dumb";
}

bool StatusLine::due() const {
    constexpr auto interval = std::chrono::milliseconds(100);
    return enabled_ && (!drawn_ || std::chrono::steady_clock::now() >= last_draw_ + interval);
}

void StatusLine::show(const std::string& text) {
    if (!enabled_) return;
    last_draw_ = std::chrono::steady_clock::now();
    drawn_ = true;
    const size_t width = terminal_width();
    std::fprintf(stderr, "\r%s\033[K", text.substr(0, width > 0 ? width - 1 : 0).c_str());
    std::fflush(stderr);
}

void StatusLine::clear() {
    if (!drawn_) return;
    drawn_ = false;
    std::fputs("\r\033[K", stderr);
    std::fflush(stderr);
}

void ProgressBar::show(const PrefillProgress& progress) {
    if (line_.due()) line_.show(line_of(progress, terminal_width()));
}

}  // namespace fastkv::cli
