#include "kernels/simd.h"

#include <hwy/highway.h>
#include <hwy/targets.h>

#include <cstdlib>

namespace fastkv::kernels {

Isa max_isa() {
    const char* text = std::getenv("FASTKV_MAX_ISA");
    const std::string name = text ? text : "";
    return name == "avx2" ? Isa::avx2 : name == "avx512" ? Isa::avx512 : Isa::amx;
}

namespace {

/// Highway must know before it first chooses a target, so when the library is loaded.
const bool limited = [] {
    if (max_isa() == Isa::avx2) hwy::DisableTargets(HWY_AVX3 | HWY_AVX3_DL);
    return true;
}();

bool has_native_bf16() {
#if defined(__x86_64__)
    __builtin_cpu_init();  // this may run before the constructor that does it
    return max_isa() == Isa::amx && __builtin_cpu_supports("avx512bf16");
#else
    return false;
#endif
}

}  // namespace

const bool native_bf16 = has_native_bf16();

std::string simd_target() {
    const int64_t usable = hwy::SupportedTargets() & HWY_TARGETS;  // not all that a processor has is compiled for
    return hwy::TargetName(usable & -usable);                      // the lowest bit is the best target
}

}  // namespace fastkv::kernels
