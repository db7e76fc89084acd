// Written with ggml's own GGUF writer.
#include "support/tiny_model.h"

#include <stdlib.h>

#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <sstream>
#include <stdexcept>

namespace fastkv::test {

namespace {

struct Freer {
    void operator()(gguf_context* context) const { gguf_free(context); }
    void operator()(ggml_context* context) const { ggml_free(context); }
};

const char* const chatml =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + "
    "'\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

enum TokenType : int32_t { normal = 1, unknown = 2, control = 3, byte_token = 6 };

struct VocabularyData {
    std::string model, pre;
    std::vector<std::string> tokens, merges;
    std::vector<float> scores;
    std::vector<int32_t> types;
    uint32_t bos = 0, eos = 0;
    bool add_bos = false;

    void add(const std::string& token, TokenType type, float score = 0) {
        tokens.push_back(token);
        types.push_back(type);
        scores.push_back(score);
    }
};

const char* const common_pairs[] = {"th", "he", "in", "er", "an", "re", "on", "at", "en", "nd", "es", "or", "te"};

/// SentencePiece: control tokens, all bytes, single letters, some pairs with rising preference.
VocabularyData sentence_piece() {
    VocabularyData v;
    v.model = "llama";
    v.pre = "default";
    v.add("<unk>", unknown);
    v.add("<s>", control);
    v.add("</s>", control);
    for (int b = 0; b < 256; ++b) {
        char text[8];
        std::snprintf(text, sizeof text, "<0x%02X>", b);
        v.add(text, byte_token);
    }
    v.add("<|im_start|>", control);
    v.add("<|im_end|>", control);
    v.add("\xe2\x96\x81", normal, -50);
    for (char c = 'a'; c <= 'z'; ++c) v.add(std::string(1, c), normal, -60);
    for (const char* pair : common_pairs) v.add(pair, normal, -static_cast<float>(v.tokens.size()) / 10);
    v.bos = 1;
    v.eos = 2;
    v.add_bos = true;
    return v;
}

std::string utf8(int code_point) {
    if (code_point < 0x80) return std::string(1, static_cast<char>(code_point));
    return {static_cast<char>(0xc0 | (code_point >> 6)), static_cast<char>(0x80 | (code_point & 0x3f))};
}

/// Byte-level BPE: every byte has a printable character of its own, as in GPT-2.
VocabularyData byte_bpe() {
    VocabularyData v;
    v.model = "gpt2";
    v.pre = "qwen2";
    int next = 256;
    for (int b = 0; b < 256; ++b) {
        const bool printable = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        v.add(utf8(printable ? b : next++), normal);
    }
    for (const char* pair : common_pairs) {
        v.add(pair, normal);
        v.merges.push_back(std::string(1, pair[0]) + ' ' + pair[1]);
    }
    v.bos = v.eos = static_cast<uint32_t>(v.tokens.size());
    v.add("<|endoftext|>", control);
    v.add("<|im_start|>", control);
    v.add("<|im_end|>", control);
    return v;
}

void set_strings(gguf_context* gguf, const char* key, const std::vector<std::string>& values) {
    std::vector<const char*> pointers;
    for (const std::string& value : values) pointers.push_back(value.c_str());
    gguf_set_arr_str(gguf, key, pointers.data(), pointers.size());
}

void set_vocabulary(gguf_context* gguf, const TinyModel& m) {
    VocabularyData v = m.arch == "qwen2" ? byte_bpe() : sentence_piece();
    for (int i = static_cast<int>(v.tokens.size()); i < m.n_vocab; ++i) {
        v.add("filler" + std::to_string(i), normal, -1000);
    }
    gguf_set_val_str(gguf, "tokenizer.ggml.model", v.model.c_str());
    gguf_set_val_str(gguf, "tokenizer.ggml.pre", v.pre.c_str());
    set_strings(gguf, "tokenizer.ggml.tokens", v.tokens);
    gguf_set_arr_data(gguf, "tokenizer.ggml.scores", GGUF_TYPE_FLOAT32, v.scores.data(), v.scores.size());
    gguf_set_arr_data(gguf, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, v.types.data(), v.types.size());
    if (!v.merges.empty()) set_strings(gguf, "tokenizer.ggml.merges", v.merges);
    gguf_set_val_u32(gguf, "tokenizer.ggml.bos_token_id", v.bos);
    gguf_set_val_u32(gguf, "tokenizer.ggml.eos_token_id", v.eos);
    gguf_set_val_bool(gguf, "tokenizer.ggml.add_bos_token", v.add_bos);
    gguf_set_val_str(gguf, "tokenizer.chat_template", chatml);
}

void set_hparams(gguf_context* gguf, const TinyModel& m) {
    const auto u32 = [&](const char* name, int value) {
        gguf_set_val_u32(gguf, (m.arch + "." + name).c_str(), static_cast<uint32_t>(value));
    };
    const auto f32 = [&](const char* name, float value) {
        gguf_set_val_f32(gguf, (m.arch + "." + name).c_str(), value);
    };
    gguf_set_val_str(gguf, "general.architecture", m.arch.c_str());
    gguf_set_val_str(gguf, "general.name", "tiny");
    u32("context_length", m.n_ctx);
    u32("embedding_length", m.n_embd);
    u32("block_count", m.n_layer);
    u32("feed_forward_length", m.n_ff);
    u32("attention.head_count", m.n_head);
    u32("attention.head_count_kv", m.n_head_kv);
    if (m.head_dim * m.n_head != m.n_embd) {
        u32("attention.key_length", m.head_dim);
        u32("attention.value_length", m.head_dim);
    }
    u32("rope.dimension_count", m.n_rot > 0 ? m.n_rot : m.head_dim);
    f32("attention.layer_norm_rms_epsilon", 1e-5f);
    f32("rope.freq_base", m.rope_theta);
    if (m.sliding_window > 0) u32("attention.sliding_window", m.sliding_window);
    if (m.rope_linear > 0) {
        gguf_set_val_str(gguf, (m.arch + ".rope.scaling.type").c_str(), "linear");
        f32("rope.scaling.factor", m.rope_linear);
    }
}

/// Adds tensors with random contents to a GGUF context.
class TensorWriter {
  public:
    TensorWriter(const TinyModel& model, gguf_context* gguf) : model_(model), gguf_(gguf), random_(model.seed) {
        constexpr size_t many = 4096;
        context_.reset(ggml_init({many * ggml_tensor_overhead(), nullptr, /*no_alloc=*/true}));
    }

    /// Normal with the given mean and deviation.
    void add(const std::string& name, std::vector<int64_t> ne, ggml_type type, float deviation, float mean = 0) {
        if (ne[0] % ggml_blck_size(type) != 0) type = GGML_TYPE_F16;
        if (model_.edit_tensor && !model_.edit_tensor(name, ne, type)) return;
        ggml_tensor* t = ggml_new_tensor(context_.get(), type, static_cast<int>(ne.size()), ne.data());
        ggml_set_name(t, name.c_str());
        std::normal_distribution<float> normal_values(mean, deviation);
        std::vector<float> values(static_cast<size_t>(ggml_nelements(t)));
        for (float& value : values) value = normal_values(random_);
        store(t, values);
    }

    /// Factors that grow from 1, as those of Llama 3.1 do.
    void add_rope_factors(int n) {
        std::vector<int64_t> ne = {n};
        ggml_type type = GGML_TYPE_F32;
        if (model_.edit_tensor && !model_.edit_tensor("rope_freqs.weight", ne, type)) return;
        ggml_tensor* t = ggml_new_tensor(context_.get(), type, 1, ne.data());
        ggml_set_name(t, "rope_freqs.weight");
        std::vector<float> values(static_cast<size_t>(ggml_nelements(t)));
        for (size_t i = 0; i < values.size(); ++i) {
            values[i] = 1 + 7 * static_cast<float>(i) / static_cast<float>(values.size());
        }
        store(t, values);
    }

  private:
    void store(ggml_tensor* t, const std::vector<float>& values) {
        data_.emplace_back(ggml_nbytes(t));
        if (t->type == GGML_TYPE_F32) {
            std::memcpy(data_.back().data(), values.data(), data_.back().size());
        } else if (ggml_is_quantized(t->type) || t->type == GGML_TYPE_F16 || t->type == GGML_TYPE_BF16) {
            ggml_quantize_chunk(t->type, values.data(), data_.back().data(), 0, ggml_nrows(t), t->ne[0], nullptr);
        }  // else: integers, which only tests of errors write; zeros
        gguf_add_tensor(gguf_, t);
        gguf_set_tensor_data(gguf_, t->name, data_.back().data());
    }

    const TinyModel& model_;
    gguf_context* gguf_;
    std::mt19937 random_;
    std::unique_ptr<ggml_context, Freer> context_;
    std::vector<std::vector<char>> data_;  // kept until the file is written
};

void add_layer(TensorWriter& tensors, const TinyModel& m, int layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    const int64_t n_q = int64_t{m.n_head} * m.head_dim, n_kv = int64_t{m.n_head_kv} * m.head_dim;
    const auto matrix = [&](const char* name, int64_t n_in, int64_t n_out, float gain) {
        tensors.add(prefix + name, {n_in, n_out}, m.type, gain / std::sqrt(static_cast<float>(n_in)));
    };
    const auto vector = [&](const char* name, int64_t n, float deviation, float mean) {
        tensors.add(prefix + name, {n}, GGML_TYPE_F32, deviation, mean);
    };
    vector("attn_norm.weight", m.n_embd, 0.2f, 1);
    // Scores of deviation about 3: a softmax that is neither flat nor a single token.
    matrix("attn_q.weight", m.n_embd, n_q, 1.7f);
    matrix("attn_k.weight", m.n_embd, n_kv, 1.7f);
    matrix("attn_v.weight", m.n_embd, n_kv, 1);
    if (m.qkv_bias) {
        vector("attn_q.bias", n_q, 0.5f, 0);
        vector("attn_k.bias", n_kv, 0.5f, m.k_bias);
        vector("attn_v.bias", n_kv, 0.5f, 0);
    }
    matrix("attn_output.weight", n_q, m.n_embd, 1);
    vector("ffn_norm.weight", m.n_embd, 0.2f, 1);
    matrix("ffn_gate.weight", m.n_embd, m.n_ff, 1);
    matrix("ffn_up.weight", m.n_embd, m.n_ff, 1);
    matrix("ffn_down.weight", m.n_ff, m.n_embd, 1);
}

void add_tensors(TensorWriter& tensors, const TinyModel& m) {
    // A tied embedding is also the output matrix: between unit embeddings and clear logits.
    const float output_deviation = 3 / std::sqrt(static_cast<float>(m.n_embd));
    tensors.add("token_embd.weight", {m.n_embd, m.n_vocab}, m.type, m.tied ? output_deviation : 1);
    for (int i = 0; i < m.n_layer; ++i) add_layer(tensors, m, i);
    tensors.add("output_norm.weight", {m.n_embd}, GGML_TYPE_F32, 0.2f, 1);
    if (!m.tied) tensors.add("output.weight", {m.n_embd, m.n_vocab}, m.type, output_deviation);
    if (m.rope_freqs) tensors.add_rope_factors((m.n_rot > 0 ? m.n_rot : m.head_dim) / 2);
}

/// Created once, removed with everything in it at the end of the process.
struct TemporaryFolder {
    std::string path;
    TemporaryFolder() {
        path = (std::filesystem::temp_directory_path() / "fastkv-test-XXXXXX").string();
        if (!mkdtemp(path.data())) throw std::runtime_error("cannot make a temporary folder");
    }
    ~TemporaryFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    }
};

}  // namespace

const std::string& temporary_folder() {
    static const TemporaryFolder folder;
    return folder.path;
}

std::string temporary_path(const std::string& suffix) {
    static std::atomic<int> counter{0};
    return temporary_folder() + "/" + std::to_string(counter++) + suffix;
}

std::string write_tiny_model(const TinyModel& model) {
    if (model.n_vocab < TinyModel::min_vocab) throw std::invalid_argument("n_vocab is below min_vocab");
    const std::unique_ptr<gguf_context, Freer> gguf(gguf_init_empty());
    set_hparams(gguf.get(), model);
    set_vocabulary(gguf.get(), model);
    if (model.edit_keys) model.edit_keys(gguf.get());
    TensorWriter tensors(model, gguf.get());
    add_tensors(tensors, model);
    std::string path = temporary_path(".gguf");
    if (!gguf_write_to_file(gguf.get(), path.c_str(), /*only_meta=*/false)) {
        throw std::runtime_error("cannot write " + path);
    }
    return path;
}

const std::string& tiny_model_path() {
    static const std::string path = write_tiny_model({});
    return path;
}

std::string new_folder(const std::string& suffix) {
    std::string folder = temporary_path(suffix);
    std::filesystem::create_directory(folder);
    return folder;
}

std::string read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot read " + path);
    std::ostringstream content;
    content << file.rdbuf();
    return content.str();
}

void write_file(const std::string& path, const std::string& content) {
    std::ofstream file(path, std::ios::binary);
    file << content;
    if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

}  // namespace fastkv::test
