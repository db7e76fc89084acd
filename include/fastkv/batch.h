// Answers of several sessions that grow together.
#pragma once

#include <exception>
#include <memory>
#include <span>
#include <vector>

#include "fastkv/session.h"

namespace fastkv {

/// Decodes one token for each of several sessions of one model in one pass: the weights, which are most of what
/// decoding waits for, are read from memory once for all of them, while every session attends to its own cache.
/// Sessions may differ in method, length and cache types. It pays to give the same sessions in the same order, token
/// after token: the pass is planned anew when they change. Not thread-safe, and no session may be used by another
/// thread meanwhile.
class Batch {
  public:
    explicit Batch(Model model);
    ~Batch();
    Batch(Batch&&) noexcept;
    Batch& operator=(Batch&&) noexcept;

    /// Does `sessions[i]->decode(tokens[i])` for every i, with the same results: bit for bit where all linear layers
    /// are of types that fastkv multiplies up to 64 rows by itself (Q4_0, Q4_1, Q5_0, Q8_0 with AVX-512 VNNI),
    /// elsewhere within float32 rounding, as ggml's products take several rows in another order than one. A session's
    /// decode seconds are those of the whole pass. Returns what each session's decode() would have thrown, nullptr
    /// where it went well; the others go on. Throws Error(usage), with nothing done, for sessions of another model, one
    /// given twice, and lists of different length.
    std::vector<std::exception_ptr> decode(std::span<Session* const> sessions, std::span<const Token> tokens);

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace fastkv
