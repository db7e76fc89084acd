#include "fastkv/batch.h"

#include <algorithm>
#include <utility>

#include "engine/decoder.h"
#include "engine/head.h"
#include "engine/session_impl.h"
#include "fastkv/error.h"

namespace fastkv {

struct Batch::Impl {
    Model model;
    Decoder decoder;
    Head head;
    std::vector<float> rows;    // [sessions][n_embd]
    std::vector<float> logits;  // [sessions][n_vocab]

    explicit Impl(Model m) : model(std::move(m)), decoder(model.impl()), head(model.impl()) {}

    void check(std::span<Session::Impl* const> sessions, size_t n_token) const;
    void run(std::span<Session::Impl* const> sessions, std::span<const Token> tokens);
};

void Batch::Impl::check(std::span<Session::Impl* const> sessions, size_t n_token) const {
    if (sessions.size() != n_token) {
        refuse(std::to_string(sessions.size()) + " sessions need as many tokens, not " + std::to_string(n_token));
    }
    for (auto session = sessions.begin(); session != sessions.end(); ++session) {
        if (&(*session)->model.impl() != &model.impl()) refuse("a batch's sessions must be of its model");
        if (std::find(sessions.begin(), session, *session) != session) refuse("a session is in the batch twice");
    }
}

/// The tokens, for which there is room, through all layers and to logits.
void Batch::Impl::run(std::span<Session::Impl* const> sessions, std::span<const Token> tokens) {
    const auto n_embd = size_t(model.hparams().n_embd), n_vocab = size_t(model.hparams().n_vocab);
    std::vector<Sequence*> sequences;
    for (Session::Impl* session : sessions) sequences.push_back(&*session->sequence);
    rows.resize(sessions.size() * n_embd);
    logits.resize(sessions.size() * n_vocab);
    decoder.run(sequences, tokens, rows);
    head.run(rows, logits);
    for (size_t i = 0; i < sessions.size(); ++i) {
        std::copy_n(rows.begin() + ptrdiff_t(i * n_embd), n_embd, sessions[i]->row.begin());
        std::copy_n(logits.begin() + ptrdiff_t(i * n_vocab), n_vocab, sessions[i]->logits.begin());
    }
}

Batch::Batch(Model model) : impl_(std::make_unique<Impl>(std::move(model))) {}
Batch::~Batch() = default;
Batch::Batch(Batch&&) noexcept = default;
Batch& Batch::operator=(Batch&&) noexcept = default;

std::vector<std::exception_ptr> Batch::decode(std::span<Session* const> sessions, std::span<const Token> tokens) {
    std::vector<Session::Impl*> all;
    for (Session* session : sessions) all.push_back(session->impl_.get());
    impl_->check(all, tokens.size());

    const int64_t start_us = ggml_time_us();
    std::vector<std::exception_ptr> errors(all.size());
    std::vector<Session::Impl*> ready;
    std::vector<Token> their_tokens;
    for (size_t i = 0; i < all.size(); ++i) {
        try {
            all[i]->begin_decode(tokens[i]);
            ready.push_back(all[i]);
            their_tokens.push_back(tokens[i]);
        } catch (...) {
            errors[i] = std::current_exception();
        }
    }
    if (ready.empty()) return errors;
    try {
        impl_->run(ready, their_tokens);
    } catch (...) {
        for (size_t i = 0; i < all.size(); ++i) {
            if (errors[i]) continue;
            errors[i] = std::current_exception();
            all[i]->clear();
        }
        return errors;
    }
    const double seconds = double(ggml_time_us() - start_us) * 1e-6;
    for (size_t i = 0; i < ready.size(); ++i) ready[i]->end_decode(their_tokens[i], seconds);
    return errors;
}

}  // namespace fastkv
