// What stands behind fastkv::Session.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/decoder.h"
#include "engine/head.h"
#include "engine/kernel_choice.h"
#include "engine/prefill.h"
#include "engine/sequence.h"
#include "engine/session_state.h"
#include "fastkv/session.h"
#include "methods/registry.h"
#include "model/model_impl.h"

namespace fastkv {

struct Session::Impl {
    Model model;
    const MethodEntry& method;
    MethodParams params;  // resolved
    SessionParams session;
    KvTypes types;
    Head head;

    std::vector<Token> tokens;  // of the prompt, of later turns and of the answer
    int n_prompt = 0;
    int n_past = 0;
    int n_chosen = 0;                // tokens that had been read when the method last chose what the caches keep
    int n_read = 0;                  // tokens at the end of the last prompt or turn
    std::vector<int> restarted;      // prompt positions that a restart left, by their new ones
    std::vector<LayerCache> caches;  // [n_layer], empty before the prefill
    std::vector<std::unique_ptr<Eviction>> evictions;  // [n_layer]
    std::vector<LayerReport> layers;                   // [n_layer]
    std::optional<AttentionRecord> record;             // of the decoder's tokens, where it was asked for
    std::optional<Sequence> sequence;                  // what decoding goes on with, empty before the prefill
    std::optional<Decoder> decoder;                    // of this sequence alone, from its first token on
    std::vector<float> row;                            // [n_embd] residual stream of the newest token
    std::vector<float> logits;                         // [n_vocab], or none where the session was rewound
    std::vector<float> read_logits;                    // [n_vocab] at n_read, or none
    std::vector<float> all_logits;                     // [n_prompt][n_vocab] or empty
    PhaseStats prefill_stats;
    PhaseStats decode_stats;

    Impl(Model m, const MethodParams& method_params, const SessionParams& session_params)
        : model(std::move(m)),
          method(find_method(method_params.method)),
          params(method.resolve(method_params, model.hparams())),
          session(session_params),
          types(cache_types(session_params, method, model.params(), model.hparams())),
          head(model.impl()),
          row(size_t(model.hparams().n_embd)),
          logits(size_t(model.hparams().n_vocab)) {}

    int n_ctx() const { return session.n_ctx > 0 ? session.n_ctx : model.hparams().n_ctx_train; }
    void clear();
    void check_tokens(std::span<const Token> list) const;
    void check_prompt(std::span<const Token> prompt) const;
    PrefillResult read(std::span<const Token> prompt, const ProgressCallback& progress);
    std::vector<int> spans_of(std::span<const Token> prompt) const;
    void compute_logits(const std::vector<float>& last_rows);
    void check_recompress() const;
    std::vector<LayerPlan> plans_to_recompress(int n_text) const;
    void check_turn(std::span<const Token> turn) const;
    bool evicts() const;
    void decode_turn(std::span<const Token> turn, const ProgressCallback& progress);
    void start_sequence();
    void run_decoder(Token token);

    /// Checks the token and makes room for it. Throws as Session::decode() does; without memory the session is empty.
    void begin_decode(Token token);
    /// Counts a token, when row and logits are those behind it.
    void end_decode(Token token, double seconds);

    void mark_read();
    void forget_prompt(int n_tokens);
    SessionState state() const;
    SessionState state_but_layers() const;
    LayerState layer_state(int layer) const;
    void resume(SessionState state, const std::function<LayerState(int)>& layer_of, const std::string& source);
    void resume_layer(int layer, LayerState state, const std::string& source);
};

}  // namespace fastkv
