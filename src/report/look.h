// How the page looks, and the few lines of script that it can do without.
#pragma once

#include <string>

namespace fastkv::report {

/// The style sheet: colours as variables, light, dark, and on paper.
std::string style_sheet();

/// Switches between light and dark, remembers it, and opens what is folded before printing.
std::string script();

}  // namespace fastkv::report
