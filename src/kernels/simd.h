// Which vector instructions the kernels use on this processor.
#pragma once

#include <string>

namespace fastkv::kernels {

/// The name of the instruction set that Highway chose at run time: "AVX3_DL", "AVX2", "NEON".
std::string simd_target();

}  // namespace fastkv::kernels
