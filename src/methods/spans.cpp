// A text is read symbol by symbol across token boundaries; a boundary that lies within a unit joins its two tokens.
#include "methods/spans.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <string_view>

namespace fastkv {

namespace {

enum class Kind {
    space,
    digit,
    letter,  // of a script that separates words, and the underscore
    joiner,  // stands inside numbers, codes, paths and addresses
    other,
};

// One Unicode character.
struct Symbol {
    char32_t code = 0;
    Kind kind = Kind::other;
    size_t byte = 0;  // where it begins in the text
};

bool in(char32_t code, char32_t first, char32_t last) { return code >= first && code <= last; }

Kind ascii_kind(char32_t code) {
    constexpr std::u32string_view spaces = U" \t\n\v\f\r", joiners = U".,:-/\\@'#+=&?%~$";
    if (spaces.find(code) != spaces.npos) return Kind::space;
    if (joiners.find(code) != joiners.npos) return Kind::joiner;
    if (in(code, '0', '9')) return Kind::digit;
    return in(code, 'a', 'z') || in(code, 'A', 'Z') || code == '_' ? Kind::letter : Kind::other;
}

Kind kind_of(char32_t code) {
    if (code < 0x80) return ascii_kind(code);
    if (code == 0xa0 || code == 0x3000 || code == 0x2028 || code == 0x2029) return Kind::space;
    // Hyphens, the apostrophe, signs of currencies.
    if (code == 0x2010 || code == 0x2011 || code == 0x2019 || in(code, 0x20a0, 0x20cf) || in(code, 0xa2, 0xa5)) {
        return Kind::joiner;
    }
    const bool punctuation = in(code, 0x80, 0xbf) || in(code, 0x2000, 0x2bff) || in(code, 0xff00, 0xff0f);
    const bool without_spaces = in(code, 0x3000, 0xa4cf) || in(code, 0xf900, 0xfaff) || code >= 0x1f000;  // CJK, emoji
    return punctuation || without_spaces ? Kind::other : Kind::letter;
}

bool is_word(const Symbol& symbol) { return symbol.kind == Kind::digit || symbol.kind == Kind::letter; }

// Bytes that are no UTF-8 become symbols of kind other, one each.
std::vector<Symbol> read_symbols(std::string_view text) {
    std::vector<Symbol> symbols;
    const auto continues = [&](size_t at) { return at < text.size() && (text[at] & 0xc0) == 0x80; };
    for (size_t at = 0; at < text.size();) {
        const auto lead = static_cast<unsigned char>(text[at]);
        const size_t length = lead < 0x80 ? 1 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
        char32_t code = length == 1 ? lead : lead & (0x7fu >> length);
        size_t n = 1;
        while (n < length && continues(at + n)) code = code << 6 | (text[at + n++] & 0x3f);
        if (n == length && !in(lead, 0x80, 0xc1)) {
            symbols.push_back({code, kind_of(code), at});
            at += length;
        } else {
            symbols.push_back({0, Kind::other, at++});
        }
    }
    return symbols;
}

using Symbols = std::span<const Symbol>;

size_t end_of_run(Symbols symbols, size_t at, bool (*belongs)(const Symbol&)) {
    while (at < symbols.size() && belongs(symbols[at])) ++at;
    return at;
}

bool is_joiner(const Symbol& symbol) { return symbol.kind == Kind::joiner; }

bool is_slash(const Symbol& symbol) { return symbol.code == '/' || symbol.code == '\\'; }

// Joiners between two words: one sign, or a few as in "https://"; "--" and "..." separate. A comma joins digits only.
bool joins(const Symbol& left, Symbols joiners, const Symbol& right) {
    if (joiners.size() == 1) {
        return joiners[0].code != ',' || (left.kind == Kind::digit && right.kind == Kind::digit);
    }
    return joiners.size() <= 3 && std::ranges::any_of(joiners, is_slash);
}

// Joiners before the first word: a sign, a currency, the beginning of a path.
bool leads(Symbols joiners) {
    constexpr std::u32string_view never = U",:'?=&%\u2019";
    if (joiners.size() == 1) return never.find(joiners[0].code) == never.npos;
    return joiners.size() <= 3 && std::ranges::any_of(joiners, is_slash);
}

// What may stand right behind a number.
bool is_unit_sign(const Symbol& symbol) {
    return std::u32string_view(U"%$\u20ac\u00a3\u00b0").find(symbol.code) != std::u32string_view::npos;
}

// One behind the last symbol of the unit whose first word begins at `at`.
size_t end_of_unit(Symbols symbols, size_t at) {
    while (true) {
        const size_t end = end_of_run(symbols, at, is_word);
        at = end_of_run(symbols, end, is_joiner);
        const bool goes_on = at > end && at < symbols.size() && is_word(symbols[at]) &&
                             joins(symbols[end - 1], symbols.subspan(end, at - end), symbols[at]);
        if (goes_on) continue;
        const bool unit = end < symbols.size() && is_unit_sign(symbols[end]) && symbols[end - 1].kind == Kind::digit;
        return end + size_t(unit);
    }
}

// For each byte of the text whether it goes on with the unit of the byte before.
std::vector<bool> mark_units(Symbols symbols, size_t n_byte) {
    std::vector<bool> inside(n_byte + 1);
    for (size_t at = 0; at < symbols.size();) {
        const size_t word = end_of_run(symbols, at, is_joiner);
        if (word == symbols.size() || !is_word(symbols[word])) {
            at = word + 1;
            continue;
        }
        const size_t first = leads(symbols.subspan(at, word - at)) ? at : word;
        const size_t end = end_of_unit(symbols, word);
        const size_t end_byte = end < symbols.size() ? symbols[end].byte : n_byte;
        std::fill(inside.begin() + std::ptrdiff_t(symbols[first].byte) + 1, inside.begin() + std::ptrdiff_t(end_byte),
                  true);
        at = end;
    }
    // Tokens may cut any character, in a unit or not.
    for (size_t i = 0; i < symbols.size(); ++i) {
        const size_t end = i + 1 < symbols.size() ? symbols[i + 1].byte : n_byte;
        for (size_t byte = symbols[i].byte + 1; byte < end; ++byte) inside[byte] = true;
    }
    return inside;
}

// Tokens whose first byte is `inside` belong to the span of the token before.
std::vector<int> join_tokens(std::span<const std::string> pieces, const std::vector<bool>& inside) {
    std::vector<int> spans(pieces.size());
    size_t byte = 0;
    int first = 0;
    for (int token = 0; token < std::ssize(pieces); ++token) {
        if (!inside[byte] || token - first >= max_span) first = token;
        spans[size_t(token)] = first;
        byte += pieces[size_t(token)].size();
    }
    return spans;
}

std::string join(std::span<const std::string> pieces) {
    return std::accumulate(pieces.begin(), pieces.end(), std::string());
}

// Calls visit(begin, end) for the columns of each span.
template <class Visit>
void for_each_span(std::span<const int> spans, Visit visit) {
    for (size_t begin = 0, end = 0; begin < spans.size(); begin = end) {
        while (end < spans.size() && spans[end] == spans[begin]) ++end;
        visit(begin, end);
    }
}

float best_of(std::span<const float> values) {
    return std::accumulate(values.begin(), values.end(), -std::numeric_limits<float>::infinity(),
                           [](float best, float x) { return x > best ? x : best; });
}

}  // namespace

std::vector<int> find_spans(std::span<const std::string> pieces) {
    const std::string text = join(pieces);
    return join_tokens(pieces, mark_units(read_symbols(text), text.size()));
}

void pool_spans(Scores& scores, std::span<const int> spans, Pooling pooling) {
    for_each_span(spans.first(std::min(spans.size(), size_t(scores.n_col))), [&](size_t begin, size_t end) {
        for (int head = 0; head < scores.n_head; ++head) {
            const std::span<float> columns = scores.row(head).subspan(begin, end - begin);
            const float shared = pooling == Pooling::max
                                     ? best_of(columns)
                                     : std::accumulate(columns.begin(), columns.end(), 0.0f) / float(columns.size());
            std::ranges::fill(columns, shared);
        }
    });
}

}  // namespace fastkv
