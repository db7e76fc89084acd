#include "bench/measure.h"

#include <chrono>

#include "model/memory.h"

namespace fastkv::bench {

namespace {

template <class Work>
double seconds_of(const Work& work) {
    const auto start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void decode(Session& session, std::span<const Token> tokens, const KeepGoing& keep_going) {
    for (const Token token : tokens) {
        if (!keep_going()) throw Error(ErrorKind::cancelled, "stopped while decoding");
        session.decode(token);
    }
}

}  // namespace

Sample measure(const Model& model, const MethodParams& method, const Test& test, std::span<const Token> tokens,
               SessionParams session_params, const KeepGoing& keep_going) {
    const auto before = tokens.first(size_t(test.n_before()));
    const auto prompt = tokens.subspan(before.size(), size_t(test.n_prompt));
    const auto answer = tokens.subspan(before.size() + prompt.size(), size_t(test.n_gen));
    const ProgressCallback watch = [&](const PrefillProgress&) { return keep_going(); };

    const bool has_peak = reset_peak_rss();
    session_params.n_predict = test.n_gen;
    Session session(model, method, session_params);
    if (!before.empty()) session.prefill(before, watch);

    Sample sample;
    if (!prompt.empty()) {
        sample.prefill_seconds = seconds_of([&] {
            before.empty() ? session.prefill(prompt, watch) : session.extend(prompt, /*recompress=*/false, watch);
        });
    }
    sample.decode_seconds = seconds_of([&] { decode(session, answer, keep_going); });
    sample.kv_cache_bytes = session.memory().kv_cache_bytes;
    if (has_peak) sample.peak_rss_bytes = peak_rss_bytes();
    return sample;
}

}  // namespace fastkv::bench
