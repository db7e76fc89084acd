// A GGUF model: its facts, its vocabulary and its weights. Load once, use from any number of sessions.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fastkv {

using Token = int32_t;  ///< an index into the model's vocabulary

/// The arithmetic of the engine.
enum class Compute {
    automatic,  ///< bf16 where there are vectors that multiply and add, else ggml's quantised products
    f32,        ///< for verification: weights, products, attention and cache in float32, decoding included
    bf16,       ///< prefill in bf16 with float32 accumulation, f16 cache, decoding from the quantised weights
    int8,       ///< bf16, but prefill's linear layers multiply 8-bit integers: faster, a little less exact
};

/// Which operators a layer on the CPU is built from. A GPU always uses ggml's.
enum class Ops {
    automatic,  ///< fastkv's kernels where they exist
    standard,   ///< ggml's own operators only: the path that every device shares
};

/// Whether a layer's quantised weights, expanded for the products of a prompt, stay for the next prompt: short prompts
/// begin sooner, and the model takes some four times its file.
enum class Expand {
    automatic,  ///< they stay where a quarter of the memory that is available after loading holds them all
    always,
    never,  ///< the memory of one layer is used by all, one after the other
};

/// How to load a model.
struct ModelParams {
    int n_threads = 0;     ///< CPU threads; 0: one per core
    int n_gpu_layers = 0;  ///< how many layers, counted from the last, go to the first GPU; < 0: all
    Compute compute = Compute::automatic;
    Ops ops = Ops::automatic;
    Expand expand = Expand::never;
    bool mmap = false;  ///< weights stay in the mapped file, which processes share, instead of a copy in large pages
};

/// What the GGUF file says about the model. Names are those of the GGUF keys.
struct HyperParams {
    std::string arch;            ///< general.architecture: "llama" or "qwen2"
    std::string name;            ///< general.name, may be empty
    std::string file_type;       ///< the most common type of the weight matrices, as ggml names it: "q4_1"
    int n_vocab = 0;             ///< rows of the embedding
    int n_ctx_train = 0;         ///< context_length
    int n_embd = 0;              ///< embedding_length: width of the residual stream
    int n_layer = 0;             ///< block_count
    int n_head = 0;              ///< attention.head_count: query heads
    int n_head_kv = 0;           ///< attention.head_count_kv: key/value heads
    int head_dim = 0;            ///< attention.key_length, else n_embd / n_head
    int n_ff = 0;                ///< feed_forward_length
    int n_rot = 0;               ///< rope.dimension_count
    int sliding_window = 0;      ///< attention.sliding_window; 0: none
    float rope_theta = 0;        ///< rope.freq_base
    float rope_freq_scale = 1;   ///< 1 / rope.scaling.factor for linear scaling
    float norm_eps = 0;          ///< attention.layer_norm_rms_epsilon
    int64_t n_params = 0;        ///< elements of all tensors
    uint64_t weights_bytes = 0;  ///< bytes of all tensors in the file

    int n_group() const { return n_head / n_head_kv; }  ///< query heads that share one key/value head
};

/// One turn of a conversation.
struct ChatMessage {
    std::string role;  ///< "system", "user" or "assistant"
    std::string content;
};

/// Names a model file by its content: its size and its first, middle and last MiB, as 16 hexadecimal digits.
/// Throws Error(failure) where it cannot be read.
std::string model_hash(const std::string& path);

/// A loaded model. Cheap to copy (copies share the weights); const after loading, so sessions on several
/// threads may share it.
class Model {
  public:
    /// Maps `path`, checks it whole before anything is computed, and copies the weights unless memory is short.
    /// Throws Error(failure) naming the file and the key or tensor that is wrong.
    static Model load(const std::string& path, const ModelParams& params = {});

    const std::string& path() const;
    const std::string& hash() const;  ///< model_hash() of the file that was loaded
    const HyperParams& hparams() const;
    const ModelParams& params() const;  ///< as given, with the automatic choices resolved

    /// Text to token ids. `add_special`: add the tokens the model starts with (BOS) if it wants them;
    /// `parse_special`: read "<|im_start|>" and its like as control tokens instead of text.
    /// Throws Error(failure) on invalid UTF-8.
    std::vector<Token> tokenize(std::string_view text, bool add_special, bool parse_special) const;

    /// The bytes of one token (a piece of text, possibly part of a UTF-8 character). Control tokens are
    /// empty unless `special`.
    std::string piece(Token token, bool special = false) const;

    /// The text of several tokens.
    std::string detokenize(std::span<const Token> tokens, bool special = false) const;

    /// True for the tokens that end an answer.
    bool is_end_of_generation(Token token) const;

    std::optional<Token> bos_token() const;  ///< tokenizer.ggml.bos_token_id
    std::optional<Token> eos_token() const;  ///< tokenizer.ggml.eos_token_id

    /// Whether the file carries a chat template that libllama knows.
    bool has_chat_template() const;

    /// tokenizer.chat_template, known or not; "" where the file carries none.
    std::string chat_template() const;

    /// The conversation rendered by the model's chat template, ready to be tokenized with `parse_special`.
    /// Throws Error(failure) if the model has no usable template.
    std::string chat_prompt(std::span<const ChatMessage> messages, bool add_generation_prompt = true) const;

    struct Impl;
    const Impl& impl() const { return *impl_; }  ///< for the engine; not part of the interface

  private:
    std::shared_ptr<const Impl> impl_;
};

}  // namespace fastkv
