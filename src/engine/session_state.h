// All of a session, on the host: what a copy and a file of it are made from.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/cache_state.h"
#include "fastkv/session.h"
#include "methods/eviction.h"

namespace fastkv {

struct LayerState {
    CacheState cache;
    std::vector<float> sink_keys;           // [sinks][cached heads][head_dim] of a rolling cache, else empty
    std::optional<EvictionState> eviction;  // where the layer has one
    LayerReport report;
};

struct SessionState {
    MethodParams method;  // resolved
    CacheType type_k = CacheType::f16, type_v = CacheType::f16;
    std::vector<Token> tokens;       // of the prompt, of later turns and of the answer
    int32_t n_prompt = 0;            // tokens of the prompt
    int32_t n_past = 0;              // the next token's position
    int32_t n_chosen = 0;            // tokens that had been read when the method last chose what the caches keep
    int32_t n_read = 0;              // tokens at the end of the last prompt or turn
    std::vector<int> restarted;      // prompt positions that a restart left, by their new ones
    std::vector<float> row;          // [n_embd] residual stream of the newest token
    std::vector<float> logits;       // [n_vocab], or none where the session was rewound
    std::vector<float> read_logits;  // [n_vocab] at n_read, or none
    std::vector<LayerState> layers;  // [n_layer]
};

/// Throws Error(failure), naming `source`, unless all parts of `state` fit each other and the model: so that whatever a
/// file says, what is made of it is a session. The evictions' own counts are looked at by Eviction::resume().
void check_state(const SessionState& state, const HyperParams& hparams, const std::string& source);

}  // namespace fastkv
