// fastkv: answers about long documents from GGUF models, with a compressed key/value cache.
#pragma once

#include "fastkv/batch.h"    // IWYU pragma: export
#include "fastkv/error.h"    // IWYU pragma: export
#include "fastkv/method.h"   // IWYU pragma: export
#include "fastkv/model.h"    // IWYU pragma: export
#include "fastkv/sampler.h"  // IWYU pragma: export
#include "fastkv/session.h"  // IWYU pragma: export

#include <string>

namespace fastkv {

/// The version of fastkv: "0.1.0".
const char* version();

/// The libraries and kernels in use, one per line: ggml, libllama, oneDNN with the instruction set that it
/// chose, Highway with its target.
std::string build_info();

}  // namespace fastkv
