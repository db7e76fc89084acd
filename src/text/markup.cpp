#include "text/markup.h"

#include "text/utf8.h"

namespace fastkv::text {

namespace {

constexpr const char* replacement = "\xEF\xBF\xBD";  // U+FFFD

void append_escaped(std::string& markup, char c) {
    const auto byte = static_cast<unsigned char>(c);
    switch (c) {
        case '&': markup += "&amp;"; return;
        case '<': markup += "&lt;"; return;
        case '>': markup += "&gt;"; return;
        case '"': markup += "&quot;"; return;
        case '\'': markup += "&#39;"; return;
        default: break;
    }
    const bool control = (byte < 0x20 && c != '\t' && c != '\n') || byte == 0x7F;
    control ? markup += replacement : markup += c;
}

}  // namespace

std::string escaped(std::string_view plain) {
    Utf8Stream stream;
    std::string valid = stream.push(plain);
    valid += stream.finish();
    std::string markup;
    for (const char c : valid) append_escaped(markup, c);
    return markup;
}

}  // namespace fastkv::text
