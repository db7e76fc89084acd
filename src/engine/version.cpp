#include <string>

#include "fastkv/fastkv.h"
#include "fastkv_build_info.h"
#include "kernels/gemm.h"
#include "kernels/simd.h"

namespace fastkv {

const char* version() { return build::version; }

std::string build_info() {
    const auto line = [](const std::string& name, const std::string& value) {
        return name + std::string(name.size() < 11 ? 11 - name.size() : 0, ' ') + value + '\n';
    };
    std::string info;
    info += line("ggml", build::ggml_version);
    info += line("libllama", std::string(build::llama_version) + " (" + build::llama_commit + ")");
    info += line("products", kernels::gemm_description());
    info += line("kernels", std::string("Highway ") + build::hwy_version + " (" + kernels::simd_target() + ")");
    info += line("compiler", std::string(build::compiler) + ", " + build::build_type +
                                 (*build::sanitizers ? std::string(", ") + build::sanitizers : ""));
    return info;
}

}  // namespace fastkv
