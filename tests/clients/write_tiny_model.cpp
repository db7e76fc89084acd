// Writes a tiny model for clients in other languages: write_tiny_model PATH
#include <filesystem>

#include "support/tiny_model.h"

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    std::filesystem::copy_file(fastkv::test::write_tiny_model({}), argv[1]);
    return 0;
}
