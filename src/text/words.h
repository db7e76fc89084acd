// Texts put together and changed.
#pragma once

#include <string>
#include <vector>

namespace fastkv::text {

/// `parts` with `between` between them.
std::string join(const std::vector<std::string>& parts, const std::string& between);

/// `text` with every `from` in it replaced.
std::string replaced(std::string text, const std::string& from, const std::string& to);

}  // namespace fastkv::text
