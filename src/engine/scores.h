// What the prompt's tokens are worth in a layer, by what its queries look at.
#pragma once

#include <span>

#include "engine/cache.h"
#include "engine/kernel_choice.h"
#include "engine/layer_context.h"
#include "methods/eviction.h"
#include "methods/plan.h"
#include "methods/select.h"

namespace fastkv {

/// A layer whose keys are there, before its attention is computed.
struct ScoredLayer {
    const Device& device;
    ggml_gallocr_t allocator;
    const LayerContext& layer;
    const KernelChoice& choice;
    ggml_tensor* stream;                 // [n_embd, rows] the layer's input
    int first_stream_row;                // the row that the stream begins with: rows before it have only keys
    std::span<const int32_t> positions;  // [n_rows]; those of rows that have only keys are not read
    KvTensors kv;                        // of all rows, one head's rows after the other's
    int n_rows() const { return int(positions.size()); }
};

/// The scores that `plan` asks for, before pooling: [n_head][n_rows - tail].
Scores score_tokens(const ScoredLayer& at, const ScorePlan& plan);

/// How the last `n_query` rows attend, averaged over the query heads: n_col = n_rows.
PromptAttention prompt_attention(const ScoredLayer& at, int n_query);

}  // namespace fastkv
