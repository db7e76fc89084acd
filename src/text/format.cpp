#include "text/format.h"

#include <cstdarg>
#include <cstdio>

namespace fastkv::text {

std::string format(const char* pattern, ...) {
    std::va_list arguments, again;
    va_start(arguments, pattern);
    va_copy(again, arguments);
    const int length = std::vsnprintf(nullptr, 0, pattern, arguments);
    std::string text(size_t(length < 0 ? 0 : length), '\0');
    std::vsnprintf(text.data(), text.size() + 1, pattern, again);
    va_end(again);
    va_end(arguments);
    return text;
}

}  // namespace fastkv::text
