// Where tests find the files that do not belong to the repository.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>
#include <string>

namespace fastkv::test {

inline std::optional<std::string> environment(const char* name) {
    const char* value = std::getenv(name);
    return value && *value ? std::optional<std::string>(value) : std::nullopt;
}

/// Path of SmolLM2-135M-Instruct.Q4_1.gguf, which scripts/test fetches.
inline std::optional<std::string> test_model() { return environment("FASTKV_TEST_MODEL"); }

/// The folder with the recorded reference runs and the test texts.
inline std::optional<std::string> shared_folder() { return environment("FASTKV_SHARED"); }

}  // namespace fastkv::test

/// Skips a test that needs a file which this machine does not have; where the file must be there it fails.
#define FASTKV_NEED(what, value)                                                                       \
    do {                                                                                               \
        if (!(value)) {                                                                                \
            if (::fastkv::test::environment("FASTKV_REQUIRE_SHARED")) FAIL() << what << " is missing"; \
            GTEST_SKIP() << what << " is not on this machine: this test needs it and does not run";    \
        }                                                                                              \
    } while (false)
