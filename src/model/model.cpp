// fastkv::Model: opens the file, checks it in the order in which mistakes are easiest to explain, shares the
// result.
#include "fastkv/model.h"

#include "fastkv/error.h"
#include "ggml.h"
#include "kernels/gemm.h"
#include "model/hparams.h"
#include "model/log.h"
#include "model/memory.h"
#include "model/model_impl.h"

namespace fastkv {

namespace {

ModelParams resolve_params(ModelParams params) {
    const bool bf16 = kernels::gemm_available(kernels::GemmType::bf16);
    if (params.compute == Compute::automatic && bf16) params.compute = Compute::bf16;
    if (params.compute == Compute::bf16 && !bf16) {
        fail("--compute bf16: this processor or this build has no native bf16 products (use auto or f32)");
    }
    if (params.compute == Compute::int8 && !(bf16 && kernels::gemm_available(kernels::GemmType::int8))) {
        fail(
            "--compute int8: this processor or this build has no native products of int8 and of bf16 (use auto or "
            "f32)");
    }
    if (params.n_threads < 0 || params.n_threads > GGML_MAX_N_THREADS) {
        refuse("-t: the number of threads must be 0 (all cores) to " + std::to_string(GGML_MAX_N_THREADS));
    }
    return params;
}

/// Bytes of all layers' matrices, expanded to bf16.
uint64_t expanded_bytes(const Weights& weights) {
    int64_t values = 0;
    for (const LayerWeights& w : weights.layers) {
        for (const ggml_tensor* matrix :
             {w.attn_q, w.attn_k, w.attn_v, w.attn_output, w.ffn_gate, w.ffn_up, w.ffn_down}) {
            values += ggml_nelements(matrix);
        }
    }
    return uint64_t(values) * kernels::gemm_type_size(kernels::GemmType::bf16);
}

}  // namespace

Model::Impl::Impl(const std::string& path, const ModelParams& given)
    : file(path),
      hash(model_hash(path)),
      params(resolve_params(given)),
      hparams(read_hparams(file)),
      vocabulary(file, hparams.n_vocab),
      cpu(open_cpu(params)),
      gpu(params.n_gpu_layers != 0 ? open_gpu() : nullptr),
      weights(file, hparams, params, *cpu, gpu.get()) {
    for (const char* array : {"tokens", "token_type", "scores", "merges"}) {  // the vocabulary has them by now
        file.forget(std::string("tokenizer.ggml.") + array);
    }
    params.n_threads = cpu->n_threads;
    if (params.expand == Expand::automatic) {
        params.expand = expanded_bytes(weights) <= available_memory() / 4 ? Expand::always : Expand::never;
    }
    if (params.expand == Expand::always) expanded = std::make_unique<ExpandedStore>();
}

Model Model::load(const std::string& path, const ModelParams& params) {
    install_logs();
    Model model;
    model.impl_ = std::make_shared<const Impl>(path, params);
    return model;
}

const std::string& Model::path() const { return impl_->file.path(); }
const std::string& Model::hash() const { return impl_->hash; }
const HyperParams& Model::hparams() const { return impl_->hparams; }
const ModelParams& Model::params() const { return impl_->params; }

std::vector<Token> Model::tokenize(std::string_view text, bool add_special, bool parse_special) const {
    return impl_->vocabulary.tokenize(text, add_special, parse_special);
}

std::string Model::piece(Token token, bool special) const { return impl_->vocabulary.piece(token, special); }

std::string Model::detokenize(std::span<const Token> tokens, bool special) const {
    std::string text;
    for (Token token : tokens) text += piece(token, special);
    return text;
}

bool Model::is_end_of_generation(Token token) const { return impl_->vocabulary.is_end_of_generation(token); }

std::optional<Token> Model::bos_token() const { return impl_->vocabulary.bos_token(); }
std::optional<Token> Model::eos_token() const { return impl_->vocabulary.eos_token(); }
std::string Model::chat_template() const { return impl_->vocabulary.chat_template(); }

bool Model::has_chat_template() const { return impl_->vocabulary.has_chat_template(); }

std::string Model::chat_prompt(std::span<const ChatMessage> messages, bool add_generation_prompt) const {
    return impl_->vocabulary.chat_prompt(messages, add_generation_prompt);
}

}  // namespace fastkv
