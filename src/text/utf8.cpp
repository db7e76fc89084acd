// UTF-8 after the table "Well-Formed UTF-8 Byte Sequences" of the Unicode standard (3.9).
#include "text/utf8.h"

namespace fastkv::text {

namespace {

constexpr const char* replacement = "\xEF\xBF\xBD";  // U+FFFD

struct Sequence {
    int length;               // of the character at the front; 0: none begins like this
    unsigned char low, high;  // range of its second byte
};

Sequence sequence_of(unsigned char first) {
    if (first < 0x80) return {1, 0, 0};
    if (first >= 0xC2 && first <= 0xDF) return {2, 0x80, 0xBF};
    if (first == 0xE0) return {3, 0xA0, 0xBF};  // no overlong forms
    if (first == 0xED) return {3, 0x80, 0x9F};  // no surrogates
    if (first >= 0xE1 && first <= 0xEF) return {3, 0x80, 0xBF};
    if (first == 0xF0) return {4, 0x90, 0xBF};
    if (first >= 0xF1 && first <= 0xF3) return {4, 0x80, 0xBF};
    if (first == 0xF4) return {4, 0x80, 0x8F};  // nothing past U+10FFFF
    return {0, 0, 0};
}

struct Character {
    int wanted;  // bytes that the character at the front should have; 0: invalid at once
    int valid;   // how many of them are there and right
};

Character character_at(std::string_view text) {
    const Sequence sequence = sequence_of(static_cast<unsigned char>(text[0]));
    int valid = sequence.length > 0 ? 1 : 0;
    while (valid < sequence.length && size_t(valid) < text.size()) {
        const auto byte = static_cast<unsigned char>(text[size_t(valid)]);
        const unsigned char low = valid == 1 ? sequence.low : 0x80;
        const unsigned char high = valid == 1 ? sequence.high : 0xBF;
        if (byte < low || byte > high) break;
        ++valid;
    }
    return {sequence.length, valid};
}

}  // namespace

size_t valid_utf8_prefix(std::string_view text) {
    size_t at = 0;
    while (at < text.size()) {
        const Character character = character_at(text.substr(at));
        if (character.wanted == 0 || character.valid < character.wanted) break;
        at += size_t(character.wanted);
    }
    return at;
}

bool is_cut_utf8(std::string_view text) {
    if (text.empty()) return false;
    const Character character = character_at(text);
    return character.wanted > 0 && character.valid < character.wanted && size_t(character.valid) == text.size();
}

std::string Utf8Stream::push(std::string_view piece) {
    pending_ += piece;
    std::string whole;
    while (true) {
        const size_t valid = valid_utf8_prefix(pending_);
        whole.append(pending_, 0, valid);
        pending_.erase(0, valid);
        if (pending_.empty() || is_cut_utf8(pending_)) return whole;
        whole += replacement;
        pending_.erase(0, 1);
    }
}

std::string Utf8Stream::finish() {
    const std::string rest = pending_.empty() ? "" : replacement;
    pending_.clear();
    return rest;
}

}  // namespace fastkv::text
