#include "cli/spinning.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>

namespace fastkv::cli {

void limit_spinning(char** arguments) {
    if (std::getenv("GOMP_SPINCOUNT") != nullptr || std::getenv("OMP_WAIT_POLICY") != nullptr) return;
    std::error_code error;
    const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
    if (error || setenv("GOMP_SPINCOUNT", "5000", 1) != 0) return;
    execv(self.c_str(), arguments);
}

}  // namespace fastkv::cli
