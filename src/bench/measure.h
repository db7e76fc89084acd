// One test, run once: what is read, what is decoded after it, how long both took and what memory they needed.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "fastkv/fastkv.h"

namespace fastkv::bench {

/// What is measured, in tokens.
struct Test {
    int n_prompt = 0;  ///< read in one piece, which is the measured prefill; 0: none
    int n_gen = 0;     ///< decoded after it, one by one
    int n_depth = 0;   ///< already read, as a prompt of its own, when measuring begins: the n_prompt tokens are then a
                       ///< later turn, which is read over what the cache kept

    /// Tokens that are read before measuring begins: decoding needs one to follow.
    int n_before() const { return n_depth == 0 && n_prompt == 0 ? 1 : n_depth; }
    int n_tokens() const { return n_before() + n_prompt + n_gen; }
};

struct Sample {
    double prefill_seconds = 0;   ///< until the logits after the last token of the prompt
    double decode_seconds = 0;    ///< of all n_gen steps, each with its logits
    uint64_t kv_cache_bytes = 0;  ///< allocated at the end, the decoded tokens included
    uint64_t peak_rss_bytes = 0;  ///< of the process between the start and the end of this run, the model's weights
                                  ///< included; 0 where the system does not let it be measured
};

/// Asked again and again; false ends the run.
using KeepGoing = std::function<bool()>;

/// Runs `test` in a session of its own over the first n_tokens() of `tokens`. Throws what Session throws, and
/// Error(cancelled).
Sample measure(const Model& model, const MethodParams& method, const Test& test, std::span<const Token> tokens,
               SessionParams session, const KeepGoing& keep_going);

}  // namespace fastkv::bench
