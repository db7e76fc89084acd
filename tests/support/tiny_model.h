// Tiny random GGUF models that ggml, libllama and fastkv all load: real files for tests, in milliseconds.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "ggml.h"
#include "gguf.h"

namespace fastkv::test {

/// What to write. Weights are random normal, scaled so that attention looks at few tokens and logits differ
/// clearly. The vocabulary is real: SentencePiece with byte tokens for llama, byte-level BPE for qwen2, both
/// with BOS, EOS and ChatML, so any text can be tokenized.
struct TinyModel {
    std::string arch = "llama";  ///< or "qwen2", for which libllama needs head_dim = n_embd / n_head
    int n_layer = 3;
    int n_embd = 64;
    int n_head = 4;
    int n_head_kv = 2;
    int head_dim = 16;
    int n_ff = 96;
    int n_vocab = 320;  ///< at least min_vocab
    int n_ctx = 4096;
    int n_rot = 0;           ///< rotated dimensions; 0: head_dim
    int sliding_window = 0;  ///< libllama ignores it for these architectures
    bool qkv_bias = false;
    float k_bias = 0;         ///< mean of the keys' biases, with qkv_bias
    bool rope_freqs = false;  ///< frequency factors
    bool tied = false;        ///< no output.weight
    float rope_theta = 10000;
    float rope_linear = 0;  ///< linear scaling factor; 0: none
    /// Of the matrices. One whose rows are not whole blocks of it is written as f16.
    ggml_type type = GGML_TYPE_F32;
    uint32_t seed = 1;

    static constexpr int min_vocab = 300;

    /// Called last, to change or remove keys.
    std::function<void(gguf_context*)> edit_keys;
    /// Called for every tensor; may change its shape and type; returns false to leave it out.
    std::function<bool(const std::string& name, std::vector<int64_t>& ne, ggml_type& type)> edit_tensor;
};

/// A folder for this process's files, removed when it ends.
const std::string& temporary_folder();

/// A new file name in it.
std::string temporary_path(const std::string& suffix);

/// Writes the model and returns its path in the temporary folder.
std::string write_tiny_model(const TinyModel& model);

/// Of one that is as TinyModel says, written once.
const std::string& tiny_model_path();

/// A new empty folder in the temporary one.
std::string new_folder(const std::string& suffix);

std::string read_file(const std::string& path);
void write_file(const std::string& path, const std::string& content);

}  // namespace fastkv::test
