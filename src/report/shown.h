// Numbers, times and long texts as the page shows them.
#pragma once

#include <optional>
#include <string>

#include "eval/statistics.h"
#include "report/html.h"

namespace fastkv::report {

HtmlCell score_cell(const eval::Mean& mean, double scale = 100, int digits = 1);     ///< "87.3"; "–" of none
HtmlCell interval_cell(const eval::Mean& mean, double scale = 100, int digits = 0);  ///< "80 to 92"

/// "−4.2", marked as better or worse where the interval is on one side of 0.
HtmlCell difference_cell(const std::optional<eval::Mean>& difference);

HtmlCell seconds_cell(double seconds);                      ///< "1.11"; "–" of 0: nothing was measured
HtmlCell mebibytes_cell(double bytes);                      ///< "23.3", likewise
HtmlCell percent_cell(const std::optional<double>& share);  ///< "11.5 %"
HtmlCell ratio_cell(const std::optional<double>& ratio);    ///< "1.70×"

/// "2026-02-03 04:05" of "2026-02-03T04:05:06Z".
std::string minute_of(std::string time);

/// At most so many bytes, whole characters of them.
std::string clipped(const std::string& text, size_t most);

}  // namespace fastkv::report
