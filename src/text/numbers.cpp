#include "text/numbers.h"

#include <array>

#include "text/format.h"

namespace fastkv::text {

std::string bytes_text(uint64_t bytes) {
    static constexpr std::array units = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = double(bytes);
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < units.size()) value /= 1024, ++unit;
    return format(unit == 0 || value >= 100 ? "%.0f %s" : "%.1f %s", value, units[unit]);
}

std::string count_text(int64_t count) {
    std::string digits = std::to_string(count < 0 ? -count : count);
    for (int at = int(digits.size()) - 3; at > 0; at -= 3) digits.insert(size_t(at), 1, ',');
    if (count < 0) digits.insert(digits.begin(), '-');
    return digits;
}

std::string seconds_text(double seconds) {
    if (seconds < 10) return format("%.2f s", seconds);
    if (seconds < 100) return format("%.1f s", seconds);
    const auto whole = int64_t(seconds + 0.5);
    return format("%lld min %lld s", static_cast<long long>(whole / 60), static_cast<long long>(whole % 60));
}

}  // namespace fastkv::text
