// One prompt, its compressed cache, and the answer that grows from it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fastkv/method.h"
#include "fastkv/model.h"

namespace fastkv {

/// How far a prefill has come. Layers differ in length, so `rows_done / rows_total` is the honest share.
struct PrefillProgress {
    int layer = 0;  ///< the layer being computed, from 0
    int n_layer = 0;
    int64_t rows_done = 0;   ///< token rows times layers finished so far
    int64_t rows_total = 0;  ///< of how many, as the method plans it
    double seconds = 0;      ///< since the prefill began
};

/// Called between chunks of rows, on the thread that called prefill. Return false to stop: prefill then
/// throws Error(cancelled) and the session stays empty.
using ProgressCallback = std::function<bool(const PrefillProgress&)>;

/// What a prefill did in one layer. Positions are those of the prompt, from 0, ascending.
struct LayerReport {
    int rows = 0;                        ///< tokens that the layer received
    int cached = 0;                      ///< entries that it keeps per cached head; of heads that differ, the mean
    int n_head_cached = 0;               ///< cached heads
    std::vector<std::vector<int>> kept;  ///< [n_head_cached] lists of positions, or one for all heads
    std::vector<int> propagated;         ///< positions that went on, only where the layer dropped some

    /// The positions that cached head `head` keeps.
    const std::vector<int>& kept_by(int head) const { return kept.size() == 1 ? kept[0] : kept[size_t(head)]; }
};

struct PhaseStats {
    int64_t tokens = 0;
    double seconds = 0;
    double tokens_per_second() const { return seconds > 0 ? double(tokens) / seconds : 0; }
};

struct MemoryStats {
    uint64_t kv_cache_bytes = 0;  ///< allocated for the cache, tokens to come included
    uint64_t weights_bytes = 0;   ///< of the model's tensors
    uint64_t peak_rss_bytes = 0;  ///< of the process, so far
};

/// How cached keys or values are stored.
enum class CacheType {
    automatic,  ///< see resolve_cache_types()
    f32,
    f16,
    q8_0,  ///< 8 bits and a scale per 32 values: just over half of f16; needs heads of a multiple of 32
    q5_0,  ///< 5 bits and a scale per 32 values: a third of f16; the same
    q4_0,  ///< 4 bits and a scale per 32 values: just over a quarter of f16; the same
};

/// How cached keys and values are stored.
struct CacheTypes {
    CacheType k = CacheType::automatic, v = CacheType::automatic;
    bool operator==(const CacheTypes&) const = default;
};

/// `given`, with what CacheType::automatic stands for: float32 with Compute::f32; keys in q8_0 and values in q4_0 where
/// the method's defaults for the model's architecture count on it (fastkv on qwen2) and all layers are on the CPU; else
/// float16. Throws Error(usage) for an unknown method.
CacheTypes resolve_cache_types(CacheTypes given, const MethodParams& method, const Model& model);

/// Takes the logits [rows][n_vocab] of consecutive prompt tokens, of which the first has position `first`.
using LogitsCallback = std::function<void(int first, std::span<const float> logits)>;

/// How to open a session.
struct SessionParams {
    int n_predict = 256;            ///< cache entries to set aside for the answer; more are added when it grows past
    int n_ctx = 0;                  ///< refuse prompts and answers past this; 0: the model's context length
    bool all_logits = false;        ///< also compute the logits of every prompt token (no row is skipped)
    LogitsCallback prompt_logits;   ///< the same, shown during prefill() some rows at a time instead of kept
    bool record_attention = false;  ///< add up what decoded tokens attend to, see recorded_attention(); 4 bytes for
                                    ///< each layer, query head and token of the prompt
    CacheType cache_type_k = CacheType::automatic;
    CacheType cache_type_v = CacheType::automatic;

    /// Whether every prompt token must pass every layer.
    bool needs_all_rows() const { return all_logits || prompt_logits; }
};

/// Bytes and work that a prompt would take, without computing anything.
struct CostEstimate {
    double prefill_share = 1;     ///< floating-point operations of the prefill, of FullKV's
    uint64_t kv_cache_bytes = 0;  ///< after the prefill, `n_predict` entries set aside
    uint64_t working_bytes = 0;   ///< residual stream, one layer's K and V, expanded weights, scratch
    uint64_t peak_bytes() const { return kv_cache_bytes + working_bytes; }
};

/// What `n_prompt` tokens would cost. Throws like resolve().
CostEstimate estimate(const Model& model, const MethodParams& method, int n_prompt, const SessionParams& params = {});

/// What a session's file says about itself.
struct SessionFileInfo {
    std::string model_hash;  ///< as Model::hash()
    MethodParams method;     ///< resolved
    CacheType cache_type_k, cache_type_v;
    std::vector<Token> tokens;  ///< as Session::tokens()
    int rewindable_to = 0;      ///< as Session::rewindable_to()
    std::string note;           ///< as given to Session::save()
};

/// Reads the beginning of a session's file, whatever its model. Throws Error(failure) as Session::load() does.
SessionFileInfo inspect_session(const std::string& path);

/// A session: prefill once, then decode token by token, and extend by later turns. Not thread-safe, but for its const
/// members; sessions are independent.
class Session {
  public:
    /// Throws Error(usage) where the method's parameters do not fit the model.
    Session(Model model, const MethodParams& method, const SessionParams& params = {});
    ~Session();
    Session(Session&&) noexcept;
    Session& operator=(Session&&) noexcept;

    /// Reads the prompt layer by layer, compressing each layer's cache at once. Afterwards logits() predicts
    /// the first token of the answer. Throws Error(usage) for an empty prompt or a token outside the vocabulary,
    /// Error(failure) when it is longer than the context or needs more memory than there is, Error(cancelled).
    void prefill(std::span<const Token> prompt, const ProgressCallback& progress = {});

    /// Appends a later turn of a conversation: its tokens attend to what the cache kept and to themselves, all of them
    /// are cached, and positions go on. With `recompress` every layer's cache is then cut to what the method would keep
    /// of a prompt as long as all turns together, as far as it is longer; the turn's last tokens score. A cancelled
    /// turn leaves the session empty, as prefill() does. Throws like prefill(), which leaves the session as it was
    /// unless reading had begun; Error(usage) before a prefill; and like check_recompress().
    void extend(std::span<const Token> turn, bool recompress = false, const ProgressCallback& progress = {});

    /// Throws Error(usage) where extend() could not recompress: with methods whose choice cannot be repeated
    /// (gemfilter, those that drop entries while decoding, scores by expectation, heads of different length), and where
    /// nothing would be cut.
    void check_recompress() const;

    /// Appends one token and computes the logits of the next.
    /// Throws Error(failure) when the context is full, Error(usage) before a prefill. Where it fails while it computes
    /// the session is left empty. Batch (batch.h) does this for several sessions at once.
    void decode(Token token);

    /// Another session in the same state, with room for `n_predict` more entries, which goes on by itself: the same
    /// tokens give the same logits, bit for bit. all_logits() and the attention recorded so far stay behind. Throws
    /// Error(usage) before a prefill, Error(failure) without enough memory.
    Session fork(int n_predict) const;

    /// Writes all of it to a file, which is whole or not there: under a temporary name, then renamed, both awaited on
    /// the disk. `note` is the caller's and is kept with it. Throws Error(usage) before a prefill, Error(failure)
    /// naming the file.
    void save(const std::string& path, const std::string& note = "") const;

    /// A saved session: decoding goes on as if it had never been away, bit for bit under the same arithmetic. Throws
    /// Error(failure), in one line that names the file and says why: it cannot be read, is cut short, damaged, of
    /// another model, another format of fastkv, other cache types, or longer than the context.
    static Session load(const Model& model, const std::string& path, const SessionParams& params = {});

    /// The same from the file's content; `source` names it in messages.
    static Session from_bytes(const Model& model, std::span<const std::byte> bytes, const std::string& source,
                              const SessionParams& params = {});

    /// Forgets all tokens after the first `n_tokens` of tokens(). At the end of the prompt or of the last turn logits()
    /// are those of then, elsewhere there are none until the next decode() or extend(). Throws Error(usage) below
    /// rewindable_to().
    void rewind(int n_tokens);

    /// How many tokens rewind() must leave: those from which the method last chose what to cache; 1 where the caches
    /// hold everything; all of them where entries are dropped while decoding.
    int rewindable_to() const;

    /// False where entries are dropped while decoding, which cannot be undone.
    bool can_rewind() const;

    std::span<const Token> tokens() const;      ///< all that were read: prompt, later turns, answer
    std::span<const float> logits() const;      ///< [n_vocab] after prefill(), extend() or decode()
    std::span<const float> all_logits() const;  ///< [n_prompt][n_vocab] with SessionParams::all_logits

    /// [n_head][n_prompt] with SessionParams::record_attention: the attention probabilities of the tokens decoded since
    /// the prefill or the last extend(), in layer `layer`, added up over the tokens. What they pay to each other is
    /// left out; tokens that the cache does not hold have 0.
    std::span<const float> recorded_attention(int layer) const;

    /// [n_embd] residual stream of the newest token after the last layer, before the final norm.
    std::span<const float> hidden() const;

    int n_prompt() const;  ///< tokens of the prompt
    int n_past() const;    ///< the next token's position: tokens of the prompt (of those that a restart left, with
                           ///< GemFilter) and of the answer so far

    /// What head `head` of layer `layer`'s cache holds now: positions in the prompt and
    /// what follows it, in no order once something was dropped.
    std::vector<int> cached_positions(int layer, int head) const;
    /// How many entries that are.
    int n_cached(int layer, int head) const;
    /// Cached heads of a layer.
    int n_head_cached(int layer) const;

    const MethodParams& method() const;  ///< with every default filled in
    std::span<const LayerReport> layers() const;
    const PhaseStats& prefill_stats() const;
    const PhaseStats& decode_stats() const;
    MemoryStats memory() const;

    uint64_t bytes() const;  ///< of a copy or a file of it, nearly

  private:
    friend class Batch;
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace fastkv
