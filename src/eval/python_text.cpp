#include "eval/python_text.h"

#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

namespace fastkv::eval::python {

namespace {

std::u32string from_icu(const icu::UnicodeString& text) {
    std::u32string points;
    points.reserve(size_t(text.length()));
    for (int32_t i = 0; i < text.length(); i = text.moveIndex32(i, 1)) points += char32_t(text.char32At(i));
    return points;
}

}  // namespace

std::u32string code_points(std::string_view utf8) {
    return from_icu(icu::UnicodeString::fromUTF8(icu::StringPiece(utf8.data(), int32_t(utf8.size()))));
}

std::u32string lower(std::u32string_view text) {
    icu::UnicodeString copy;
    for (const char32_t c : text) copy.append(UChar32(c));
    return from_icu(copy.toLower(icu::Locale::getRoot()));
}

// Unicode's white space, and the four separators of ASCII that Python counts as well.
bool is_space(char32_t c) { return (c >= 0x1c && c <= 0x1f) || u_isUWhiteSpace(UChar32(c)); }

bool is_digit(char32_t c) { return u_charType(UChar32(c)) == U_DECIMAL_DIGIT_NUMBER; }

bool is_word(char32_t c) {
    constexpr uint32_t letters_and_numbers = U_GC_L_MASK | U_GC_N_MASK;
    return c == U'_' || (U_GET_GC_MASK(UChar32(c)) & letters_and_numbers) != 0;
}

std::vector<std::u32string> split(std::u32string_view text) {
    std::vector<std::u32string> words;
    bool inside = false;
    for (const char32_t c : text) {
        const bool space = is_space(c);
        if (!space && !inside) words.emplace_back();
        if (!space) words.back() += c;
        inside = !space;
    }
    return words;
}

std::vector<std::u32string> split(std::u32string_view text, char32_t separator) {
    std::vector<std::u32string> pieces(1);
    for (const char32_t c : text) {
        if (c == separator) {
            pieces.emplace_back();
        } else {
            pieces.back() += c;
        }
    }
    return pieces;
}

std::u32string_view strip_leading_newlines(std::u32string_view text) {
    return text.substr(std::min(text.find_first_not_of(U'\n'), text.size()));
}

std::vector<std::u32string> digit_runs(std::u32string_view text) {
    std::vector<std::u32string> runs;
    bool inside = false;
    for (const char32_t c : text) {
        const bool digit = is_digit(c);
        if (digit && !inside) runs.emplace_back();
        if (digit) runs.back() += c;
        inside = digit;
    }
    return runs;
}

bool contains(std::u32string_view text, std::u32string_view needle) {
    return text.find(needle) != std::u32string_view::npos;
}

}  // namespace fastkv::eval::python
