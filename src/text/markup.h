// Any text within HTML, SVG and XML.
#pragma once

#include <string>
#include <string_view>

namespace fastkv::text {

/// `plain` as the content of an element or the value of a quoted attribute: & < > " ' are entities. What such a file
/// must not hold is U+FFFD: bytes that are no UTF-8, and control characters but for tab and newline.
std::string escaped(std::string_view plain);

}  // namespace fastkv::text
