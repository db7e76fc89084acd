#include "report/shown.h"

#include "text/format.h"
#include "text/utf8.h"

namespace fastkv::report {

using text::format;

namespace {

constexpr const char* minus = "−";

std::string number_text(double value, int digits) {
    const std::string text = format("%.*f", digits, value < 0 ? -value : value);
    const bool zero = text.find_first_not_of("0.") == std::string::npos;
    return (value < 0 && !zero ? minus : "") + text;
}

std::string signed_text(double value) {
    const std::string text = number_text(value, 1);
    return value > 0 && text != "0.0" ? "+" + text : text;
}

}  // namespace

HtmlCell score_cell(const eval::Mean& mean, double scale, int digits) {
    if (mean.n == 0) return {"–", "nothing was answered", "quiet"};
    return {format("%.*f", digits, scale * mean.mean), format("of %d answers", mean.n)};
}

HtmlCell interval_cell(const eval::Mean& mean, double scale, int digits) {
    if (mean.n == 0 || !(mean.interval.low < mean.interval.high)) return {"", "", "quiet"};
    return {number_text(scale * mean.interval.low, digits) + " to " + number_text(scale * mean.interval.high, digits),
            "", "quiet"};
}

HtmlCell difference_cell(const std::optional<eval::Mean>& difference) {
    if (!difference || difference->n == 0) return {"–", "", "quiet"};
    const auto& [low, high] = difference->interval;
    HtmlCell cell{signed_text(100 * difference->mean), ""};
    cell.title = format("%s to %s points, on %d prompts that both answered", signed_text(100 * low).c_str(),
                        signed_text(100 * high).c_str(), difference->n);
    if (high < 0) cell.kind = "worse";
    if (low > 0) cell.kind = "better";
    return cell;
}

HtmlCell seconds_cell(double seconds) {
    if (seconds <= 0) return {"–", "", "quiet"};
    return {format(seconds < 10 ? "%.2f" : "%.1f", seconds)};
}

HtmlCell mebibytes_cell(double bytes) {
    if (bytes <= 0) return {"–", "", "quiet"};
    return {format("%.1f", bytes / (1 << 20))};
}

HtmlCell percent_cell(const std::optional<double>& share) {
    if (!share) return {"–", "", "quiet"};
    return {format("%.1f %%", 100 * *share)};
}

HtmlCell ratio_cell(const std::optional<double>& ratio) {
    if (!ratio) return {"–", "", "quiet"};
    return {format("%.2f×", *ratio)};
}

std::string minute_of(std::string time) {
    constexpr size_t day = 10, minute = 16;
    if (time.size() > day) time[day] = ' ';
    return time.substr(0, minute);
}

std::string clipped(const std::string& whole, size_t most) {
    if (whole.size() <= most) return whole;
    const std::string_view front = std::string_view(whole).substr(0, most);
    return std::string(front.substr(0, text::valid_utf8_prefix(front))) + " …";
}

}  // namespace fastkv::report
