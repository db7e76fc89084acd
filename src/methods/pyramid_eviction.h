// PyramidInfer while decoding: of each block of entries that leave the recent ones a share is kept.
#pragma once

#include <memory>

#include "fastkv/method.h"
#include "methods/eviction.h"

namespace fastkv {

struct PyramidEvictionParams {
    PyramidDecode variant = PyramidDecode::guarded;
    int layer = 0;  ///< from 0
    int n_layer = 1;
    int n_prompt = 0;              ///< tokens of the prompt: what layer 0 caches
    double recent = 0.2;           ///< share of the text whose tokens are recent
    double distance_weight = 1.2;  ///< reference: of the newest scoring query; the oldest has 1
    double keep = 0.9;             ///< share of a block that is kept
    int block = 16;                ///< tokens of a block
    int sinks = 4;                 ///< guarded: first entries, never dropped
};

/// One layer's eviction; all heads alike. (Yang et al., arXiv 2405.12532.)
///
/// reference: as FastKV's implementation of it decides under transformers 4.45.0. Once its counter is reached, a layer
/// drops from a block of its cache at every step, wherever its context ends, and deep layers lose nearly all of the
/// prompt. Stores the attention of the recent queries, which grows with the square of the prompt.
///
/// guarded: only tokens that have left the recent ones since the prompt come into a block, each once; of a block those
/// with the highest mean attention since the prompt stay. No sink is dropped, and a layer never falls below the number
/// of entries that the prompt left in it, because a block has grown before it loses some. Stores two numbers an entry.
std::unique_ptr<Eviction> pyramid_eviction(const PyramidEvictionParams& params);

}  // namespace fastkv
