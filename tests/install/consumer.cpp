// Links and runs against an installed fastkv: its version, its methods and one of its errors.
#include <fastkv/fastkv.h>

#include <cstdio>
#include <string>

int main() {
    std::printf("%s\n", fastkv::version());
    if (fastkv::list_methods().empty()) return 1;
    try {
        fastkv::Model::load("no-such-model.gguf");
    } catch (const fastkv::Error& error) {
        const bool names_the_file = std::string(error.what()).find("no-such-model.gguf") != std::string::npos;
        return error.kind() == fastkv::ErrorKind::failure && names_the_file ? 0 : 1;
    }
    return 1;
}
