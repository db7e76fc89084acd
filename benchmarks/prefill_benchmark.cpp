// Time to first token and decoding, fastkv beside llama.cpp on the same file, tokens and threads, in one run:
//   FASTKV_TEST_MODEL=model.gguf prefill_benchmark --benchmark_enable_random_interleaving=true
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <memory>
#include <random>

#include "fastkv/fastkv.h"
#include "llama.h"
#include "model/log.h"

namespace {

using fastkv::Token;

constexpr int n_decode = 32;

const char* model_path() { return std::getenv("FASTKV_TEST_MODEL"); }

std::vector<Token> random_tokens(int n_vocab, int64_t count) {
    std::mt19937 random(1);
    std::uniform_int_distribution<Token> token(100, n_vocab - 1);
    std::vector<Token> tokens(static_cast<size_t>(count));
    for (Token& t : tokens) t = token(random);
    return tokens;
}

const fastkv::Model& model() {
    static const fastkv::Model loaded = fastkv::Model::load(model_path());
    return loaded;
}

llama_model* peer_model() {
    static llama_model* loaded = llama_model_load_from_file(model_path(), llama_model_default_params());
    return loaded;
}

using LlamaContext = std::unique_ptr<llama_context, decltype(&llama_free)>;

/// llama.cpp's best settings for long prompts on a CPU: flash attention, its default batches.
LlamaContext peer_context(int64_t n_ctx) {
    llama_context_params params = llama_context_default_params();
    params.n_ctx = uint32_t(n_ctx);
    params.n_threads = params.n_threads_batch = model().params().n_threads;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
    return {llama_init_from_model(peer_model(), params), llama_free};
}

void peer_prefill(llama_context* context, std::vector<Token> tokens) {
    const int n_batch = int(llama_n_batch(context));
    for (int first = 0; first < int(tokens.size()); first += n_batch) {
        const int n = std::min(n_batch, int(tokens.size()) - first);
        llama_decode(context, llama_batch_get_one(tokens.data() + first, n));
    }
    benchmark::DoNotOptimize(llama_get_logits(context));
}

void report(benchmark::State& state, int64_t tokens) {
    state.counters["tokens/s"] =
        benchmark::Counter(double(tokens) * double(state.iterations()), benchmark::Counter::kIsRate);
}

void prefill(benchmark::State& state, const fastkv::MethodParams& method) {
    const auto tokens = random_tokens(model().hparams().n_vocab, state.range(0));
    for (auto _ : state) {
        fastkv::Session session(model(), method);
        session.prefill(tokens);
        benchmark::DoNotOptimize(session.logits().data());
    }
    report(state, state.range(0));
}

void decode(benchmark::State& state, const fastkv::MethodParams& method) {
    fastkv::Session session(model(), method);
    session.prefill(random_tokens(model().hparams().n_vocab, state.range(0)));
    for (auto _ : state) {
        for (int i = 0; i < n_decode; ++i) session.decode(100 + i);
    }
    report(state, n_decode);
}

void llama_prefill(benchmark::State& state) {
    const auto tokens = random_tokens(model().hparams().n_vocab, state.range(0));
    const LlamaContext context = peer_context(state.range(0) + n_decode);
    for (auto _ : state) {
        llama_memory_clear(llama_get_memory(context.get()), true);
        peer_prefill(context.get(), tokens);
    }
    report(state, state.range(0));
}

void llama_decode_after(benchmark::State& state) {
    const LlamaContext context = peer_context(state.range(0) + 4096);
    peer_prefill(context.get(), random_tokens(model().hparams().n_vocab, state.range(0)));
    for (auto _ : state) {
        for (Token i = 100; i < 100 + n_decode; ++i) {
            llama_decode(context.get(), llama_batch_get_one(&i, 1));
            benchmark::DoNotOptimize(llama_get_logits(context.get()));
        }
    }
    report(state, n_decode);
}

template <class Function>
void add(const char* name, Function function) {
    for (int64_t n : {1000, 4000, 8000}) {
        benchmark::RegisterBenchmark(name, function)->Arg(n)->Unit(benchmark::kMillisecond)->UseRealTime();
    }
}

}  // namespace

int main(int argc, char** argv) {
    benchmark::Initialize(&argc, argv);
    if (!model_path()) {
        std::fprintf(stderr, "prefill_benchmark: set FASTKV_TEST_MODEL to a GGUF file\n");
        return 2;
    }
    fastkv::set_log_level(false);
    const fastkv::MethodParams fullkv{.method = "fullkv"}, fast{.method = "fastkv"};
    add("prefill/llama.cpp", llama_prefill);
    add("prefill/fastkv/fullkv", [fullkv](benchmark::State& state) { prefill(state, fullkv); });
    add("prefill/fastkv/fastkv", [fast](benchmark::State& state) { prefill(state, fast); });
    add("decode/llama.cpp", llama_decode_after);
    add("decode/fastkv/fullkv", [fullkv](benchmark::State& state) { decode(state, fullkv); });
    add("decode/fastkv/fastkv", [fast](benchmark::State& state) { decode(state, fast); });
    benchmark::RunSpecifiedBenchmarks();
}
