// --trace: what a run kept, propagated, computed and said, as JSON. Other tools rely on the names.
#pragma once

#include <string>

#include "cli/answer.h"
#include "fastkv/fastkv.h"

namespace fastkv::cli {

/// The trace as JSON text.
std::string trace_json(const Model& model, const Session& session, const SamplerParams& sampler, const Answer& answer);

}  // namespace fastkv::cli
