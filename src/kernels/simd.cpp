#include "kernels/simd.h"

#include <hwy/targets.h>

namespace fastkv::kernels {

std::string simd_target() {
    const int64_t supported = hwy::SupportedTargets();
    return hwy::TargetName(supported & -supported);  // the lowest bit is the best target
}

}  // namespace fastkv::kernels
