// --trace: what a run kept, propagated, computed and said, as JSON. Other tools rely on the names.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "fastkv/fastkv.h"

namespace fastkv::cli {

/// What the loop over the answer adds to what the session knows.
struct Answer {
    std::vector<Token> tokens;        ///< as sampled, the one that ended the answer included
    std::vector<double> margins;      ///< logit of the best minus that of the second, per sampled token
    std::vector<float> first_logits;  ///< [n_vocab] after the prefill
    std::string text;                 ///< valid UTF-8
};

/// The difference between the two largest logits.
double top_margin(std::span<const float> logits);

/// The trace as JSON text.
std::string trace_json(const Model& model, const Session& session, const SamplerParams& sampler, const Answer& answer);

}  // namespace fastkv::cli
