// The examples run as a person would run them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "support/process.h"
#include "support/tiny_model.h"

namespace fastkv {
namespace {

using ::testing::HasSubstr;

const std::string answer = std::string(FASTKV_BINARY_FOLDER) + "/example-answer";

TEST(AnswerExample, ReadsADocumentAndReportsIt) {
    test::TinyModel tiny;
    tiny.n_layer = 4;
    const std::string model = test::write_tiny_model(tiny);
    const std::string document = test::temporary_path(".txt");
    std::string text;
    for (int i = 0; i < 50; ++i) text += "The keeper of the lighthouse counts ships. ";
    test::write_file(document, text);

    const test::ProcessResult result = test::run_process({answer, model, document, "Who counts ships?"});
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_THAT(result.err, HasSubstr("layer 4 of 4"));
    EXPECT_THAT(result.out, HasSubstr(" tokens read in "));
}

TEST(AnswerExample, SaysWhatIsWrong) {
    const test::ProcessResult result = test::run_process({answer, "model.gguf", "no-such-document.txt", "Why?"});
    EXPECT_EQ(result.code, 1);
    EXPECT_THAT(result.err, HasSubstr("no-such-document.txt: cannot be read"));
    EXPECT_EQ(test::run_process({answer}).code, 2);
}

}  // namespace
}  // namespace fastkv
