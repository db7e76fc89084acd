// Text of the command: UTF-8 that arrives in pieces, and numbers as people read them.
#include "cli/text.h"

#include <gtest/gtest.h>

namespace fastkv::cli {
namespace {

TEST(Utf8, FindsTheFirstInvalidByte) {
    EXPECT_EQ(valid_utf8_prefix(""), 0u);
    EXPECT_EQ(valid_utf8_prefix("plain"), 5u);
    EXPECT_EQ(valid_utf8_prefix("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"), 9u);
    EXPECT_EQ(valid_utf8_prefix("ab\xFF"), 2u);
    EXPECT_EQ(valid_utf8_prefix("a\x80"), 1u);              // continues nothing
    EXPECT_EQ(valid_utf8_prefix("a\xC0\xAF"), 1u);          // overlong
    EXPECT_EQ(valid_utf8_prefix("a\xE0\x9F\xBF"), 1u);      // overlong
    EXPECT_EQ(valid_utf8_prefix("a\xED\xA0\x80"), 1u);      // a surrogate
    EXPECT_EQ(valid_utf8_prefix("a\xF4\x90\x80\x80"), 1u);  // past U+10FFFF
    EXPECT_EQ(valid_utf8_prefix("a\xE2\x82"), 1u);          // cut off
}

TEST(Utf8, TellsCutFromInvalid) {
    EXPECT_TRUE(is_cut_utf8("\xE2\x82"));
    EXPECT_TRUE(is_cut_utf8("\xF0"));
    EXPECT_FALSE(is_cut_utf8("\xE2\x28"));
    EXPECT_FALSE(is_cut_utf8("\xFF"));
    EXPECT_FALSE(is_cut_utf8("a"));
    EXPECT_FALSE(is_cut_utf8(""));
}

TEST(Utf8Stream, HoldsBackUnfinishedCharacters) {
    Utf8Stream stream;
    EXPECT_EQ(stream.push("a\xF0\x9F"), "a");
    EXPECT_EQ(stream.push("\x98"), "");
    EXPECT_EQ(stream.push("\x80z"), "\xF0\x9F\x98\x80z");
    EXPECT_EQ(stream.finish(), "");
}

TEST(Utf8Stream, ReplacesWhatCanNeverBeACharacter) {
    Utf8Stream stream;
    EXPECT_EQ(stream.push("a\xFF"
                          "b"),
              "a\xEF\xBF\xBD"
              "b");
    EXPECT_EQ(stream.push("\xE2\x82"), "");
    EXPECT_EQ(stream.push("x"), "\xEF\xBF\xBD\xEF\xBF\xBDx");
    EXPECT_EQ(stream.push("\xC3"), "");
    EXPECT_EQ(stream.finish(), "\xEF\xBF\xBD");
    EXPECT_EQ(stream.finish(), "");
}

TEST(Numbers, AsPeopleReadThem) {
    EXPECT_EQ(count_text(0), "0");
    EXPECT_EQ(count_text(999), "999");
    EXPECT_EQ(count_text(3512), "3,512");
    EXPECT_EQ(count_text(134515008), "134,515,008");
    EXPECT_EQ(count_text(-1234), "-1,234");
    EXPECT_EQ(bytes_text(0), "0 B");
    EXPECT_EQ(bytes_text(1023), "1023 B");
    EXPECT_EQ(bytes_text(1536), "1.5 KiB");
    EXPECT_EQ(bytes_text(uint64_t(3) << 30), "3.0 GiB");
    EXPECT_EQ(seconds_text(0.421), "0.42 s");
    EXPECT_EQ(seconds_text(42.12), "42.1 s");
    EXPECT_EQ(seconds_text(200), "3 min 20 s");
}

}  // namespace
}  // namespace fastkv::cli
