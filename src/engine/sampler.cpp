// Sampling by libllama's samplers, on the engine's own logits.
#include "fastkv/sampler.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "fastkv/error.h"
#include "llama.h"
#include "methods/params_check.h"
#include "model/model_impl.h"

namespace fastkv {

namespace {

// Below this a division by the temperature could overflow, and the most likely token is all that is left anyway.
constexpr float coldest = 1e-4f;

// Logits are held inside +-this, so that no sampler meets an infinity or subtracts one from another.
constexpr float largest_logit = 1e9f;

void check(const SamplerParams& params) {
    const auto share = [](float value, const std::string& flag) {
        if (!(value >= 0 && value <= 1)) refuse(flag + " " + number_text(value) + " is outside [0, 1]");
    };
    if (!std::isfinite(params.temperature)) refuse("--temp " + number_text(params.temperature) + " is not a number");
    checked_at_least(params.top_k, 0, "--top-k");
    share(params.top_p, "--top-p");
    share(params.min_p, "--min-p");
    if (!(params.repeat_penalty > 0 && std::isfinite(params.repeat_penalty))) {
        refuse("--repeat-penalty " + number_text(params.repeat_penalty) + " must be above 0; 1 is off");
    }
    const auto penalty = [](float value, const std::string& name) {
        if (!(value >= -2 && value <= 2)) refuse(name + " " + number_text(value) + " is outside [-2, 2]");
    };
    penalty(params.frequency_penalty, "frequency_penalty");
    penalty(params.presence_penalty, "presence_penalty");
    checked_at_least(params.repeat_last_n, 0, "--repeat-last-n");
}

struct FreeSampler {
    void operator()(llama_sampler* sampler) const { llama_sampler_free(sampler); }
};
using Chain = std::unique_ptr<llama_sampler, FreeSampler>;

// The order of llama.cpp: penalties see all tokens, then the candidates are cut down, then the temperature is applied.
Chain make_chain(const SamplerParams& params, int n_vocab) {
    Chain chain(llama_sampler_chain_init(llama_sampler_chain_default_params()));
    const auto add = [&](llama_sampler* sampler) { llama_sampler_chain_add(chain.get(), sampler); };
    const bool penalizes = params.repeat_penalty != 1 || params.frequency_penalty != 0 || params.presence_penalty != 0;
    if (penalizes && params.repeat_last_n > 0) {
        add(llama_sampler_init_penalties(n_vocab, params.repeat_last_n, params.repeat_penalty, params.frequency_penalty,
                                         params.presence_penalty));
    }
    if (params.temperature < coldest) {
        add(llama_sampler_init_greedy());
        return chain;
    }
    if (params.top_k > 0) add(llama_sampler_init_top_k(params.top_k));
    add(llama_sampler_init_top_p(params.top_p, 1));
    add(llama_sampler_init_min_p(params.min_p, 1));
    add(llama_sampler_init_temp(params.temperature));
    add(llama_sampler_init_dist(params.seed));
    return chain;
}

std::vector<bool> end_tokens(const Model& model) {
    const Vocabulary& vocabulary = model.impl().vocabulary;
    std::vector<bool> is_end(size_t(vocabulary.n_tokens()));
    for (size_t token = 0; token < is_end.size(); ++token) {
        is_end[token] = vocabulary.is_end_of_generation(Token(token));
    }
    return is_end;
}

}  // namespace

struct Sampler::Impl {
    Chain chain;
    std::vector<bool> banned;                  // [n_vocab] or empty: tokens that are never candidates
    std::vector<llama_token_data> candidates;  // [<= n_vocab]
};

Sampler::Sampler(const Model& model, const SamplerParams& params) : impl_(std::make_unique<Impl>()) {
    check(params);
    impl_->chain = make_chain(params, model.impl().vocabulary.n_tokens());
    if (params.ignore_eos) impl_->banned = end_tokens(model);
}

Sampler::~Sampler() = default;
Sampler::Sampler(Sampler&&) noexcept = default;
Sampler& Sampler::operator=(Sampler&&) noexcept = default;

Token Sampler::sample(std::span<const float> logits) {
    auto& candidates = impl_->candidates;
    const auto& banned = impl_->banned;
    candidates.clear();
    for (size_t token = 0; token < logits.size(); ++token) {
        if (token < banned.size() && banned[token]) continue;
        const float logit = std::isnan(logits[token]) ? -largest_logit : logits[token];
        candidates.push_back({Token(token), std::clamp(logit, -largest_logit, largest_logit), 0});
    }
    if (candidates.empty()) fail("no token can be sampled: every token of the vocabulary ends the answer");

    llama_token_data_array array{candidates.data(), candidates.size(), -1, false};
    llama_sampler_apply(impl_->chain.get(), &array);
    const Token token = array.data[array.selected].id;
    llama_sampler_accept(impl_->chain.get(), token);
    return token;
}

}  // namespace fastkv
