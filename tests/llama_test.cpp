// FullKV against libllama's own decoding of the same file: the distributions of every next token of a text.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>

#include "fastkv/fastkv.h"
#include "llama.h"
#include "support/compare.h"
#include "support/environment.h"
#include "support/tiny_model.h"

namespace fastkv {
namespace {

/// libllama's logits of every token of a text, [tokens][n_vocab], with a float32 or its usual f16 cache.
std::vector<float> llama_logits(const std::string& path, const std::vector<Token>& tokens, bool f32_cache) {
    llama_model_params model_params = llama_model_default_params();
    model_params.use_extra_bufts = false;  // its AMX kernels, built by GCC 12, end in a general protection fault
    std::unique_ptr<llama_model, decltype(&llama_model_free)> model(
        llama_model_load_from_file(path.c_str(), model_params), llama_model_free);
    if (!model) throw std::runtime_error("libllama does not load " + path);
    llama_context_params context_params = llama_context_default_params();
    context_params.n_ctx = uint32_t(tokens.size());
    context_params.n_batch = context_params.n_ubatch = uint32_t(tokens.size());
    context_params.n_threads = context_params.n_threads_batch = 2;
    context_params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    if (f32_cache) context_params.type_k = context_params.type_v = GGML_TYPE_F32;
    std::unique_ptr<llama_context, decltype(&llama_free)> context(llama_init_from_model(model.get(), context_params),
                                                                  llama_free);
    if (!context) throw std::runtime_error("libllama opens no context");

    llama_batch batch = llama_batch_init(int32_t(tokens.size()), 0, 1);
    for (size_t i = 0; i < tokens.size(); ++i) {
        batch.token[i] = tokens[i];
        batch.pos[i] = llama_pos(i);
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = true;
    }
    batch.n_tokens = int32_t(tokens.size());
    const int status = llama_decode(context.get(), batch);
    llama_batch_free(batch);
    if (status != 0) throw std::runtime_error("llama_decode failed");
    const size_t n_vocab = size_t(llama_vocab_n_tokens(llama_model_get_vocab(model.get())));
    const float* logits = llama_get_logits(context.get());
    return {logits, logits + tokens.size() * n_vocab};
}

std::vector<float> fastkv_logits(const std::string& path, const std::vector<Token>& tokens, Compute compute, Ops ops) {
    ModelParams params;
    params.compute = compute;
    params.ops = ops;
    SessionParams session_params;
    session_params.all_logits = true;
    Session session(Model::load(path, params), {.method = "fullkv"}, session_params);
    session.prefill(tokens);
    return {session.all_logits().begin(), session.all_logits().end()};
}

/// log of the sum of exp(logits), in double.
double log_sum_exp(std::span<const float> logits) {
    const double highest = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (float logit : logits) sum += std::exp(double(logit) - highest);
    return highest + std::log(sum);
}

/// Mean over the rows of KL(p ‖ q), in nats.
double mean_kl(const std::vector<float>& p_logits, const std::vector<float>& q_logits, size_t n_vocab) {
    EXPECT_EQ(p_logits.size(), q_logits.size());
    double total = 0;
    const size_t rows = p_logits.size() / n_vocab;
    for (size_t row = 0; row < rows; ++row) {
        const auto p = std::span(p_logits).subspan(row * n_vocab, n_vocab);
        const auto q = std::span(q_logits).subspan(row * n_vocab, n_vocab);
        const double p_norm = log_sum_exp(p), q_norm = log_sum_exp(q);
        for (size_t i = 0; i < n_vocab; ++i) {
            const double log_p = double(p[i]) - p_norm;
            total += std::exp(log_p) * (log_p - (double(q[i]) - q_norm));
        }
    }
    return total / double(rows);
}

/// The first tokens of the essays.
std::vector<Token> essay_tokens(const Model& model, size_t count) {
    std::string text;
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(*test::shared_folder() + "/data/essays")) {
        files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    for (const auto& file : files) {
        text += test::read_file(file);
        if (text.size() > count * 8) break;
    }
    std::vector<Token> tokens = model.tokenize(text, true, false);
    tokens.resize(std::min(tokens.size(), count));
    return tokens;
}

struct TinyCase {
    const char* name;
    test::TinyModel model;
};

class TinyModels : public ::testing::TestWithParam<TinyCase> {};

TEST_P(TinyModels, EqualLlamaInFloat32) {
    const test::TinyModel& spec = GetParam().model;
    const std::string path = test::write_tiny_model(spec);
    const auto tokens = test::random_tokens(spec.n_vocab, 1000, 7);
    const auto expected = llama_logits(path, tokens, true);
    for (Ops ops : {Ops::automatic, Ops::standard}) {
        const auto actual = fastkv_logits(path, tokens, Compute::f32, ops);
        EXPECT_LT(mean_kl(expected, actual, size_t(spec.n_vocab)), 1e-6)
            << (ops == Ops::standard ? "ggml's operators" : "fastkv's kernels");
    }
}

std::vector<TinyCase> tiny_cases() {
    using test::TinyModel;
    TinyModel llama;  // defaults
    TinyModel odd_heads{.n_embd = 96, .n_head = 6, .n_head_kv = 2, .head_dim = 20};
    TinyModel factors{.head_dim = 32, .rope_freqs = true};
    TinyModel one_head_each{.n_head = 3, .n_head_kv = 3, .head_dim = 48, .tied = true};
    TinyModel qwen{.arch = "qwen2", .n_embd = 168, .n_head = 7, .n_head_kv = 1, .head_dim = 24, .qkv_bias = true};
    TinyModel qwen_wide{
        .arch = "qwen2", .n_embd = 256, .n_head = 2, .n_head_kv = 2, .head_dim = 128, .qkv_bias = true, .tied = true};
    TinyModel linear_rope{.rope_linear = 4};
    return {{"Llama", llama},
            {"LinearRope", linear_rope},
            {"OddHeads", odd_heads},
            {"RopeFactors", factors},
            {"OneHeadEach", one_head_each},
            {"Qwen2", qwen},
            {"Qwen2WideHeads", qwen_wide}};
}

INSTANTIATE_TEST_SUITE_P(Architectures, TinyModels, ::testing::ValuesIn(tiny_cases()),
                         [](const auto& param) { return param.param.name; });

class SmolLm2 : public ::testing::Test {
  protected:
    void SetUp() override {
        FASTKV_NEED("SmolLM2 (FASTKV_TEST_MODEL)", test::test_model());
        FASTKV_NEED("the folder of test texts (FASTKV_SHARED)", test::shared_folder());
        path_ = *test::test_model();
    }
    std::string path_;
};

TEST_F(SmolLm2, EqualsLlamaInFloat32) {
    // the same weights as float32: what libllama itself makes of the file
    const std::string f32_path = test::temporary_path("-f32.gguf");
    llama_model_quantize_params params = llama_model_quantize_default_params();
    params.ftype = LLAMA_FTYPE_ALL_F32;
    params.allow_requantize = true;
    ASSERT_EQ(llama_model_quantize(path_.c_str(), f32_path.c_str(), &params), 0u);

    const Model model = Model::load(path_);
    const auto tokens = essay_tokens(model, 1000);
    const auto expected = llama_logits(f32_path, tokens, true);
    const auto actual = fastkv_logits(f32_path, tokens, Compute::f32, Ops::automatic);
    const double kl = mean_kl(expected, actual, size_t(model.hparams().n_vocab));
    RecordProperty("kl", std::to_string(kl));
    EXPECT_LT(kl, 1e-6);
}

TEST_F(SmolLm2, Bf16IsCloserToFloat32ThanLlamaIs) {
    const Model model = Model::load(path_);
    if (model.params().compute != Compute::bf16) GTEST_SKIP() << "this processor has no fast bf16";
    const auto tokens = essay_tokens(model, 1000);
    const size_t n_vocab = size_t(model.hparams().n_vocab);
    const auto exact = fastkv_logits(path_, tokens, Compute::f32, Ops::automatic);
    const double ours = mean_kl(exact, fastkv_logits(path_, tokens, Compute::bf16, Ops::automatic), n_vocab);
    const double theirs = mean_kl(exact, llama_logits(path_, tokens, false), n_vocab);
    std::printf("KL against float32: bf16 %.2e, llama.cpp %.2e\n", ours, theirs);
    EXPECT_LT(ours, 1e-3);
    EXPECT_LE(ours, theirs);
}

}  // namespace
}  // namespace fastkv
