// Which vector instructions the kernels use on this processor.
#pragma once

#include <string>

namespace fastkv::kernels {

/// The name of the instruction set that Highway chose at run time: "AVX3", "AVX2", "NEON".
std::string simd_target();

/// Levels of x86's instruction sets that the kernels can be held to.
enum class Isa { avx2, avx512, amx };

/// The level that the environment variable FASTKV_MAX_ISA (avx2, avx512, amx) allows; amx without it. To test and to
/// compare: what the processor does not have is not used anyway.
Isa max_isa();

/// Whether float32 is rounded to bf16 in one instruction (AVX512-BF16), which belongs to the level of AMX here.
extern const bool native_bf16;

}  // namespace fastkv::kernels
