// Loading models: what a good file says, its vocabulary, and its weights where they should be.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <set>

#include "fastkv/error.h"
#include "fastkv/model.h"
#include "kernels/gemm.h"
#include "llama.h"
#include "model/hparams.h"
#include "model/memory.h"
#include "model/model_impl.h"
#include "support/tiny_model.h"

namespace fastkv {
namespace {

using test::TinyModel;
using test::write_tiny_model;

const char* const mixed_text = "The engine reads on: naïve café, 東京, 🙂, \"quotes\"\n\n\tand   spaces.";

std::vector<float> floats(const ggml_tensor* t) {
    const auto* data = static_cast<const float*>(t->data);
    return {data, data + ggml_nelements(t)};
}

/// The tensor as ggml itself makes float32 of it.
std::vector<float> dequantized(const GgufFile& file, const std::string& name) {
    const ggml_tensor* t = file.tensor(name);
    std::vector<float> values(static_cast<size_t>(ggml_nelements(t)));
    const void* data = file.tensor_data(name);
    if (t->type == GGML_TYPE_F32) {
        std::memcpy(values.data(), data, ggml_nbytes(t));
    } else {
        ggml_get_type_traits(t->type)->to_float(data, values.data(), ggml_nelements(t));
    }
    return values;
}

bool in_mapping(const GgufFile& file, const ggml_tensor* t) {
    const auto* start = static_cast<const char*>(file.mapping());
    const auto* data = static_cast<const char*>(t->data);
    return data >= start && data + ggml_nbytes(t) <= start + file.size();
}

std::string error_of(const std::function<void()>& action) {
    try {
        action();
    } catch (const Error& error) {
        return error.what();
    }
    return "";
}

// ---- The default model ----

class SmolLm2 : public testing::Test {
  protected:
    void SetUp() override {
        const char* path = std::getenv("FASTKV_TEST_MODEL");
        if (!path || !*path) GTEST_SKIP() << "FASTKV_TEST_MODEL does not name the SmolLM2 file";
        path_ = path;
    }
    std::string path_;
};

TEST_F(SmolLm2, HasItsPublishedShape) {
    const Model model = Model::load(path_);
    const HyperParams& h = model.hparams();
    EXPECT_EQ(h.arch, "llama");
    EXPECT_EQ(h.file_type, "q4_1");
    EXPECT_EQ(h.n_vocab, 49152);
    EXPECT_EQ(h.n_ctx_train, 8192);
    EXPECT_EQ(h.n_embd, 576);
    EXPECT_EQ(h.n_layer, 30);
    EXPECT_EQ(h.n_head, 9);
    EXPECT_EQ(h.n_head_kv, 3);
    EXPECT_EQ(h.n_group(), 3);
    EXPECT_EQ(h.head_dim, 64);
    EXPECT_EQ(h.n_rot, 64);
    EXPECT_EQ(h.n_ff, 1536);
    EXPECT_EQ(h.sliding_window, 0);
    EXPECT_EQ(h.rope_theta, 100000);
    EXPECT_EQ(h.rope_freq_scale, 1);
    EXPECT_FLOAT_EQ(h.norm_eps, 1e-5f);
    EXPECT_EQ(h.n_params, 134515008);
    EXPECT_EQ(model.impl().weights.output, model.impl().weights.token_embd) << "tied";
}

TEST_F(SmolLm2, TokenizesAndBack) {
    const Model model = Model::load(path_);
    EXPECT_EQ(model.detokenize(model.tokenize(mixed_text, false, false)), mixed_text);
    EXPECT_TRUE(model.tokenize("", false, false).empty());
    // As text, a control token is many tokens; parsed, it is one.
    EXPECT_GT(model.tokenize("<|im_start|>", false, false).size(), 1u);
    const std::vector<Token> control = model.tokenize("<|im_start|>", false, true);
    ASSERT_EQ(control.size(), 1u);
    EXPECT_EQ(model.piece(control[0]), "");
    EXPECT_EQ(model.piece(control[0], true), "<|im_start|>");
    EXPECT_TRUE(model.is_end_of_generation(model.tokenize("<|im_end|>", false, true).at(0)));
    EXPECT_FALSE(model.is_end_of_generation(model.tokenize("a", false, true).at(0)));
}

TEST_F(SmolLm2, RendersTheChatTemplate) {
    const Model model = Model::load(path_);
    ASSERT_TRUE(model.has_chat_template());
    const ChatMessage messages[] = {{"system", "Be brief."}, {"user", "Why?"}};
    EXPECT_EQ(model.chat_prompt(messages),
              "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n");
}

TEST_F(SmolLm2, ExpandsToFloat32AsGgmlDoes) {
    const Model model = Model::load(path_, {.n_threads = 2, .n_gpu_layers = 0, .compute = Compute::f32});
    const Model::Impl& impl = model.impl();
    EXPECT_EQ(floats(impl.weights.layers[17].ffn_down), dequantized(impl.file, "blk.17.ffn_down.weight"));
    EXPECT_EQ(floats(impl.weights.token_embd), dequantized(impl.file, "token_embd.weight"));
}

// ---- Tiny models ----

TEST(TinyModels, SayWhatTheyAre) {
    TinyModel tiny;
    tiny.n_embd = 48;
    tiny.n_head = 6;
    tiny.n_head_kv = 3;
    tiny.head_dim = 10;  // not n_embd / n_head
    tiny.n_rot = 8;
    tiny.sliding_window = 77;
    tiny.rope_linear = 4;
    tiny.rope_theta = 500000;
    tiny.tied = true;
    const Model model = Model::load(write_tiny_model(tiny));
    const HyperParams& h = model.hparams();
    EXPECT_EQ(h.arch, "llama");
    EXPECT_EQ(h.name, "tiny");
    EXPECT_EQ(h.file_type, "f32");
    EXPECT_EQ(h.n_vocab, 320);
    EXPECT_EQ(h.n_layer, 3);
    EXPECT_EQ(h.n_head, 6);
    EXPECT_EQ(h.n_head_kv, 3);
    EXPECT_EQ(h.head_dim, 10);
    EXPECT_EQ(h.n_rot, 8);
    EXPECT_EQ(h.n_ff, 96);
    EXPECT_EQ(h.sliding_window, 77);
    EXPECT_EQ(h.rope_theta, 500000);
    EXPECT_EQ(h.rope_freq_scale, 0.25f);
    EXPECT_EQ(rope_mode(h), GGML_ROPE_TYPE_NORMAL);
    const int64_t per_layer = 2 * 48 + 2 * 48 * 60 + 2 * 48 * 30 + 3 * 48 * 96;
    EXPECT_EQ(h.n_params, 3 * per_layer + 48 + 48 * 320);
    EXPECT_EQ(h.weights_bytes, static_cast<uint64_t>(h.n_params) * 4);
    EXPECT_EQ(model.impl().weights.output, model.impl().weights.token_embd);
    EXPECT_EQ(model.impl().weights.layers[0].attn_q_bias, nullptr);
    EXPECT_EQ(model.impl().weights.layers[0].rope_freqs, nullptr);
}

TEST(TinyModels, Qwen2HasBiasesAndRotatesHalves) {
    TinyModel tiny;
    tiny.arch = "qwen2";
    tiny.n_embd = 72;
    tiny.n_head = 3;
    tiny.n_head_kv = 1;
    tiny.head_dim = 24;
    tiny.qkv_bias = true;
    const Model model = Model::load(write_tiny_model(tiny));
    EXPECT_EQ(rope_mode(model.hparams()), GGML_ROPE_TYPE_NEOX);
    EXPECT_EQ(model.hparams().head_dim, 24);
    const LayerWeights& layer = model.impl().weights.layers.at(2);
    ASSERT_NE(layer.attn_k_bias, nullptr);
    EXPECT_EQ(floats(layer.attn_k_bias), dequantized(model.impl().file, "blk.2.attn_k.bias"));
    EXPECT_NE(model.impl().weights.output, model.impl().weights.token_embd);
}

TEST(TinyModels, DefaultsOfAbsentKeys) {
    TinyModel tiny;
    tiny.n_head_kv = 4;
    tiny.edit_keys = [](gguf_context* gguf) {
        for (const char* key :
             {"llama.attention.head_count_kv", "llama.rope.dimension_count", "llama.rope.freq_base", "general.name"}) {
            gguf_remove_key(gguf, key);
        }
    };
    const HyperParams h = Model::load(write_tiny_model(tiny)).hparams();
    EXPECT_EQ(h.n_head_kv, 4);
    EXPECT_EQ(h.n_rot, 16);
    EXPECT_EQ(h.rope_theta, 10000);
    EXPECT_EQ(h.name, "");
}

TEST(TinyModels, HeadCountsWrittenPerLayer) {
    TinyModel tiny;
    tiny.edit_keys = [](gguf_context* gguf) {
        const int32_t counts[] = {2, 2, 2};
        gguf_set_arr_data(gguf, "llama.attention.head_count_kv", GGUF_TYPE_INT32, counts, 3);
    };
    EXPECT_EQ(Model::load(write_tiny_model(tiny)).hparams().n_head_kv, 2);
}

TEST(TinyModels, OlderLinearScalingKey) {
    TinyModel tiny;
    tiny.edit_keys = [](gguf_context* gguf) { gguf_set_val_f32(gguf, "llama.rope.scale_linear", 2); };
    EXPECT_EQ(Model::load(write_tiny_model(tiny)).hparams().rope_freq_scale, 0.5f);
}

TEST(TinyModels, RopeFactorsAreShared) {
    TinyModel tiny;
    tiny.rope_freqs = true;
    const Model model = Model::load(write_tiny_model(tiny));
    const auto& layers = model.impl().weights.layers;
    ASSERT_NE(layers[0].rope_freqs, nullptr);
    EXPECT_EQ(layers[0].rope_freqs, layers[2].rope_freqs);
    EXPECT_EQ(floats(layers[0].rope_freqs), dequantized(model.impl().file, "rope_freqs.weight"));
}

class WeightTypes : public testing::TestWithParam<ggml_type> {};

TEST_P(WeightTypes, AreCopiedOrStayInTheFileOrBecomeFloat32) {
    TinyModel tiny;
    tiny.n_embd = 256;
    tiny.n_head = 8;
    tiny.n_head_kv = 2;
    tiny.head_dim = 32;
    tiny.n_ff = 512;
    tiny.n_layer = 2;
    tiny.type = GetParam();
    const std::string path = write_tiny_model(tiny);

    const auto bytes = [](const ggml_tensor* t) { return std::string_view((const char*)t->data, ggml_nbytes(t)); };
    const Model copied = Model::load(path), in_place = Model::load(path, {.mmap = true});
    const ggml_tensor* copy = copied.impl().weights.layers[1].attn_q;
    const ggml_tensor* original = in_place.impl().weights.layers[1].attn_q;
    EXPECT_EQ(original->type, GetParam());
    EXPECT_EQ(original->data, in_place.impl().file.tensor_data("blk.1.attn_q.weight"));
    EXPECT_NE(original->buffer, nullptr);
    EXPECT_EQ(copy->type, GetParam());
    EXPECT_FALSE(in_mapping(copied.impl().file, copy));
    EXPECT_EQ(bytes(copy), bytes(original));
    // of the embedding only single rows are read
    EXPECT_TRUE(in_mapping(copied.impl().file, copied.impl().weights.token_embd));

    const Model expanded = Model::load(path, {.n_threads = 3, .n_gpu_layers = 0, .compute = Compute::f32});
    const GgufFile& file = expanded.impl().file;
    const LayerWeights& wide = expanded.impl().weights.layers[1];
    for (const auto& [tensor, name] :
         {std::pair{wide.attn_q, "blk.1.attn_q.weight"}, std::pair{wide.attn_v, "blk.1.attn_v.weight"},
          std::pair{wide.ffn_down, "blk.1.ffn_down.weight"}, std::pair{expanded.impl().weights.output, "output.weight"},
          std::pair{expanded.impl().weights.token_embd, "token_embd.weight"}}) {
        EXPECT_EQ(tensor->type, GGML_TYPE_F32);
        EXPECT_EQ(floats(tensor), dequantized(file, name)) << name;
    }
}

INSTANTIATE_TEST_SUITE_P(Formats, WeightTypes,
                         testing::Values(GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q4_0, GGML_TYPE_Q4_1,
                                         GGML_TYPE_Q5_0, GGML_TYPE_Q5_1, GGML_TYPE_Q8_0, GGML_TYPE_Q2_K, GGML_TYPE_Q3_K,
                                         GGML_TYPE_Q4_K, GGML_TYPE_Q5_K, GGML_TYPE_Q6_K, GGML_TYPE_IQ4_NL,
                                         GGML_TYPE_IQ4_XS),
                         [](const auto& type) { return std::string(ggml_type_name(type.param)); });

TEST(TinyModels, NormsBecomeFloat32) {
    TinyModel tiny;
    tiny.edit_tensor = [](const std::string& name, std::vector<int64_t>&, ggml_type& type) {
        if (name.ends_with("norm.weight")) type = GGML_TYPE_BF16;
        return true;
    };
    const Model model = Model::load(write_tiny_model(tiny));
    const ggml_tensor* norm = model.impl().weights.layers[0].ffn_norm;
    EXPECT_EQ(norm->type, GGML_TYPE_F32);
    EXPECT_EQ(floats(norm), dequantized(model.impl().file, "blk.0.ffn_norm.weight"));
}

TEST(TinyModels, UnalignedTensorsAreCopied) {
    TinyModel tiny;
    tiny.type = GGML_TYPE_Q8_0;  // rows of 34-byte blocks
    tiny.edit_keys = [](gguf_context* gguf) {
        gguf_set_val_u32(gguf, "general.alignment", 2);
        gguf_set_val_str(gguf, "general.description", "odd");
    };
    const Model model = Model::load(write_tiny_model(tiny));
    const Model::Impl& impl = model.impl();
    int copied = 0;
    for (const LayerWeights& layer : impl.weights.layers) {
        for (const ggml_tensor* t : {layer.attn_q, layer.attn_k, layer.attn_v, layer.ffn_up, layer.ffn_norm}) {
            EXPECT_EQ(reinterpret_cast<uintptr_t>(t->data) % 32, 0u);
            EXPECT_EQ(std::memcmp(t->data, impl.file.tensor_data(t->name), ggml_nbytes(t)), 0);
            copied += !in_mapping(impl.file, t);
        }
    }
    EXPECT_GT(copied, 0);
}

TEST(TinyModels, ChoicesAreResolved) {
    const std::string path = write_tiny_model({});
    const bool bf16 = kernels::gemm_available(kernels::GemmType::bf16);
    EXPECT_EQ(Model::load(path).params().compute, bf16 ? Compute::bf16 : Compute::automatic);
    EXPECT_GE(Model::load(path).params().n_threads, 1);
    EXPECT_EQ(Model::load(path, {.n_threads = 3}).params().n_threads, 3);
    EXPECT_TRUE(Model::load(path).impl().cpu->own_kernels);
    ModelParams standard;
    standard.ops = Ops::standard;
    EXPECT_FALSE(Model::load(path, standard).impl().cpu->own_kernels);
    ModelParams forced;
    forced.compute = Compute::bf16;
    if (!bf16) {
        EXPECT_THROW(Model::load(path, forced), Error);
    } else {
        EXPECT_NO_THROW(Model::load(path, forced));
    }
    EXPECT_EQ(Model::load(path).params().expand, Expand::never);
    EXPECT_EQ(Model::load(path, {.expand = Expand::automatic}).params().expand, Expand::always);  // it is tiny
    forced.compute = Compute::int8;
    if (bf16 && kernels::gemm_available(kernels::GemmType::int8)) {
        EXPECT_EQ(Model::load(path, forced).params().compute, Compute::int8);
    } else {
        EXPECT_THROW(Model::load(path, forced), Error);
    }
}

TEST(TinyModels, CopiesShareTheWeights) {
    Model copy;
    {
        const Model model = Model::load(write_tiny_model({}));
        copy = model;
        EXPECT_EQ(&copy.impl(), &model.impl());
    }
    EXPECT_EQ(copy.hparams().n_layer, 3);
}

TEST(TinyModels, LayersOnAGpu) {
    ModelParams params;
    params.n_gpu_layers = 2;
    const std::string path = write_tiny_model({});
    std::string error;
    try {
        const Model model = Model::load(path, params);
        const Weights& weights = model.impl().weights;
        EXPECT_TRUE(weights.layers[0].device->is_cpu);
        EXPECT_FALSE(weights.layers[1].device->is_cpu);
        EXPECT_FALSE(weights.layers[2].device->is_cpu);
        EXPECT_TRUE(weights.output_device->is_cpu);
        std::vector<float> values(static_cast<size_t>(ggml_nelements(weights.layers[2].attn_q)));
        ggml_backend_tensor_get(weights.layers[2].attn_q, values.data(), 0, values.size() * sizeof(float));
        EXPECT_EQ(values, dequantized(model.impl().file, "blk.2.attn_q.weight"));
    } catch (const Error& failure) {
        error = failure.what();
        EXPECT_NE(error.find("no GPU"), std::string::npos) << error;
    }
}

// ---- Vocabularies ----

class Vocabularies : public testing::TestWithParam<const char*> {
  protected:
    std::string write() const {
        TinyModel tiny;
        tiny.arch = GetParam();
        tiny.qkv_bias = tiny.arch == "qwen2";
        return write_tiny_model(tiny);
    }
};

TEST_P(Vocabularies, TokenizeAnyTextAndBack) {
    const Model model = Model::load(write());
    std::string text = model.detokenize(model.tokenize(mixed_text, false, false));
    if (GetParam() == std::string("llama")) text.erase(0, 1);  // SentencePiece begins with a space
    EXPECT_EQ(text, mixed_text);
    const std::vector<Token> tokens = model.tokenize("the end", true, false);
    EXPECT_EQ(tokens.front() == 1, GetParam() == std::string("llama")) << "BOS only where the model wants it";
    for (Token token = 0; token < model.hparams().n_vocab; ++token) EXPECT_NO_THROW(model.piece(token, true));
    EXPECT_THROW(model.piece(model.hparams().n_vocab), Error);
    EXPECT_THROW(model.piece(-1), Error);
    EXPECT_FALSE(model.is_end_of_generation(-1));
}

TEST_P(Vocabularies, RenderChats) {
    const Model model = Model::load(write());
    ASSERT_TRUE(model.has_chat_template());
    const ChatMessage messages[] = {{"user", "Hello"}};
    const std::string prompt = model.chat_prompt(messages);
    EXPECT_EQ(prompt, "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n");
    EXPECT_EQ(model.chat_prompt(messages, false), "<|im_start|>user\nHello<|im_end|>\n");
    const std::vector<Token> tokens = model.tokenize(prompt, false, true);
    EXPECT_EQ(model.piece(tokens.front(), true), "<|im_start|>");
    EXPECT_TRUE(model.is_end_of_generation(model.tokenize("<|im_end|>", false, true).back()));
    EXPECT_THROW(model.chat_prompt({}), Error);
    const ChatMessage zero[] = {{"user", std::string("a\0b", 3)}};
    EXPECT_NE(error_of([&] { model.chat_prompt(zero); }).find("zero byte at byte 1"), std::string::npos);
}

TEST_P(Vocabularies, RefuseInvalidUtf8AndSayWhere) {
    const Model model = Model::load(write());
    const std::pair<std::string, int> cases[] = {
        {"ab\xff", 2},           {"\x80", 0},          {"abc\xc3", 3},         {"a\xe2\x82", 1},
        {"\xc0\xaf", 0},         {"x\xe0\x80\xaf", 1}, {"\xed\xa0\x80", 0},    {"\xf4\x90\x80\x80", 0},
        {"\xf5\x80\x80\x80", 0}, {"é\xc3(", 2},        {"ok \xf0\x9f\x99", 3}, {"\xf0\x80\x80\x80", 0},
    };
    for (const auto& [text, byte] : cases) {
        const std::string error = error_of([&] { model.tokenize(text, true, true); });
        EXPECT_NE(error.find("not valid UTF-8: wrong at byte " + std::to_string(byte) + " "), std::string::npos)
            << error;
        const ChatMessage messages[] = {{"user", text}};
        EXPECT_THROW(model.chat_prompt(messages), Error);
    }
    for (const char* text :
         {"\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80", "\xf4\x8f\xbf\xbf"}) {
        EXPECT_NO_THROW(model.tokenize(text, false, false));
    }
    EXPECT_NO_THROW(model.tokenize(std::string_view("a\0b", 3), false, false));
}

INSTANTIATE_TEST_SUITE_P(Kinds, Vocabularies, testing::Values("llama", "qwen2"),
                         [](const auto& arch) { return std::string(arch.param); });

TEST(Vocabulary, SurvivesVeryLongWords) {
    // Pre-tokenizers of libllama that recurse per character; tekken is that of Mistral Nemo and Ministral.
    for (const char* pre : {"tekken", "default"}) {
        TinyModel tiny;
        tiny.arch = "qwen2";
        tiny.edit_keys = [=](gguf_context* gguf) { gguf_set_val_str(gguf, "tokenizer.ggml.pre", pre); };
        const Model model = Model::load(write_tiny_model(tiny));
        for (const char c : {'-', '7', ' ', 'a'}) {
            const std::string text = "so " + std::string(100000, c) + "\n\n" + std::string(2000, '\n');
            EXPECT_EQ(model.detokenize(model.tokenize(text, false, false)), text) << pre << c;
        }
    }
}

TEST(Vocabulary, WithoutAChatTemplate) {
    TinyModel tiny;
    tiny.edit_keys = [](gguf_context* gguf) { gguf_remove_key(gguf, "tokenizer.chat_template"); };
    const Model none = Model::load(write_tiny_model(tiny));
    const ChatMessage messages[] = {{"user", "Hello"}};
    EXPECT_FALSE(none.has_chat_template());
    EXPECT_NE(error_of([&] { none.chat_prompt(messages); }).find("has no chat template"), std::string::npos);
    tiny.edit_keys = [](gguf_context* gguf) { gguf_set_val_str(gguf, "tokenizer.chat_template", "{{ my own }}"); };
    const Model unknown = Model::load(write_tiny_model(tiny));
    EXPECT_FALSE(unknown.has_chat_template());
    EXPECT_NE(error_of([&] { unknown.chat_prompt(messages); }).find("not one that libllama knows"), std::string::npos);
}

// ---- Both libraries read the tiny models ----

TEST(TinyModels, LibllamaLoadsAndRunsThem) {
    for (const char* arch : {"llama", "qwen2"}) {
        TinyModel tiny;
        tiny.arch = arch;
        tiny.rope_freqs = tiny.arch == "llama";
        tiny.qkv_bias = true;
        const std::string path = write_tiny_model(tiny);
        const Model ours = Model::load(path);
        llama_model_params model_params = llama_model_default_params();
        model_params.use_extra_bufts = false;  // its AMX kernels, built by GCC 12, end in a general protection fault
        llama_model* model = llama_model_load_from_file(path.c_str(), model_params);
        ASSERT_NE(model, nullptr) << arch;
        EXPECT_EQ(llama_model_n_params(model), static_cast<uint64_t>(ours.hparams().n_params));
        llama_context_params params = llama_context_default_params();
        params.n_ctx = 64;
        llama_context* context = llama_init_from_model(model, params);
        ASSERT_NE(context, nullptr);
        std::vector<Token> tokens = ours.tokenize("then and there", true, false);
        ASSERT_EQ(llama_decode(context, llama_batch_get_one(tokens.data(), static_cast<int32_t>(tokens.size()))), 0);
        const float* logits = llama_get_logits_ith(context, -1);
        float low = logits[0], high = logits[0];
        for (int i = 0; i < tiny.n_vocab; ++i) {
            ASSERT_TRUE(std::isfinite(logits[i]));
            low = std::min(low, logits[i]);
            high = std::max(high, logits[i]);
        }
        EXPECT_GT(high - low, 3) << "clear logits";
        llama_free(context);
        llama_model_free(model);
    }
}

// ---- Memory ----

TEST(Memory, IsAskedForBeforeItIsTaken) {
    EXPECT_GT(available_memory(), 1u << 20);
    EXPECT_GT(peak_rss_bytes(), 1u << 20);
    EXPECT_NO_THROW(require_memory(1, "nothing much"));
    const std::string error = error_of([] { require_memory(uint64_t{1} << 60, "the test", "buy more"); });
    EXPECT_EQ(error.rfind("not enough memory: the test needs 1073741824.0 GiB, ", 0), 0u) << error;
    EXPECT_NE(error.find(" is available (buy more)"), std::string::npos) << error;
    EXPECT_EQ(format_bytes(300), "300 bytes");
    EXPECT_EQ(format_bytes(3 << 20), "3.0 MiB");
    EXPECT_EQ(format_bytes(uint64_t{3} << 29), "1.5 GiB");
}

#ifndef __SANITIZE_ADDRESS__  // which itself needs all of the address space
TEST(Memory, IsCheckedBeforeTheWeightsAreExpanded) {
    TinyModel tiny;
    tiny.n_embd = 256;
    tiny.head_dim = 64;
    tiny.n_ff = 40000;
    tiny.n_layer = 2;
    tiny.type = GGML_TYPE_Q4_0;
    const std::string path = write_tiny_model(tiny);
    Model::load(path);  // what threads and libraries reserve for themselves is there before the limit is drawn
    rlimit before{};
    ASSERT_EQ(getrlimit(RLIMIT_AS, &before), 0);
    uint64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    if (pages == 0) GTEST_SKIP() << "no /proc/self/statm";
    rlimit tight = before;
    tight.rlim_cur = pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)) + (uint64_t{160} << 20);
    ASSERT_EQ(setrlimit(RLIMIT_AS, &tight), 0);
    const std::string in_place = error_of([&] { Model::load(path); });
    const std::string expanded = error_of([&] { Model::load(path, {.compute = Compute::f32}); });
    setrlimit(RLIMIT_AS, &before);
    EXPECT_EQ(in_place, "");
    EXPECT_EQ(expanded.rfind("not enough memory: the float32 copy of the weights needs 0.2 GiB, 0.1 GiB is", 0), 0u)
        << expanded;
    EXPECT_EQ(error_of([&] { Model::load(path, {.compute = Compute::f32}); }), "");
}
#endif

}  // namespace
}  // namespace fastkv
