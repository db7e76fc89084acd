// Times one engine of the llama.cpp family: how long a prompt takes to its first token's logits, how fast tokens are
// decoded after it, and the peak of memory meanwhile. Built once against llama.cpp and once against ik_llama.cpp
// (PEER_IK), from their own sources. The model is loaded, and a short prompt read, before anything counts.
//
//   llama_driver MODEL TOKENS THREADS N_GEN UBATCH REPACK LENGTH...
//
// TOKENS is a JSON array of token ids; a prompt is its first LENGTH ones, the next N_GEN are decoded. Prints a line of
// JSON for every LENGTH.
#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "llama.h"

namespace {

// ---- where the two differ ------------------------------------------------------------------------------------------

#ifdef PEER_IK
void free_model(llama_model* model) { llama_free_model(model); }
void clear_cache(llama_context* context) { llama_kv_cache_clear(context); }
void use_flash_attention(llama_context_params& params) { params.flash_attn = true; }
void use_repacking(llama_model_params& params, bool repack) {
    params.repack_tensors = repack;  // its -rtr, which takes the place of mapping the file
    params.use_mmap = !repack;
}
llama_batch batch_of(llama_token* tokens, int n, int first) { return llama_batch_get_one(tokens, n, first, 0); }
#else
void free_model(llama_model* model) { llama_model_free(model); }
void clear_cache(llama_context* context) { llama_memory_clear(llama_get_memory(context), true); }
void use_flash_attention(llama_context_params& params) { params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED; }
void use_repacking(llama_model_params& params, bool repack) { params.use_extra_bufts = repack; }
llama_batch batch_of(llama_token* tokens, int n, int) { return llama_batch_get_one(tokens, n); }
#endif

// ---- the same for both ---------------------------------------------------------------------------------------------

[[noreturn]] void give_up(const std::string& why) {
    std::fprintf(stderr, "%s\n", why.c_str());
    std::exit(1);
}

std::vector<llama_token> read_tokens(const char* path) {
    std::ifstream file(path);
    std::vector<llama_token> tokens;
    char separator = 0;
    for (llama_token token = 0; file >> separator >> token;) tokens.push_back(token);  // "[1, 2, 3]"
    if (tokens.empty()) give_up(std::string(path) + " holds no token ids");
    return tokens;
}

// As fastkv's reset_peak_rss() and peak_rss_bytes().
void reset_peak() {
    malloc_trim(0);
    std::ofstream("/proc/self/clear_refs") << "5" << std::flush;
}

long long peak_bytes() {
    std::ifstream file("/proc/self/status");
    for (std::string line; std::getline(file, line);) {
        if (line.rfind("VmHWM:", 0) == 0) return std::atoll(line.c_str() + 6) * 1024;
    }
    return 0;
}

void decode(llama_context* context, llama_token* tokens, int n, int first) {
    if (llama_decode(context, batch_of(tokens, n, first)) != 0) give_up("llama_decode failed");
    llama_synchronize(context);
    if (llama_get_logits(context) == nullptr) give_up("there are no logits");
}

template <class Work>
double seconds_of(const Work& work) {
    const auto start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void measure(llama_model* model, std::vector<llama_token>& tokens, int n_prompt, int n_gen, int n_threads,
             int n_ubatch) {
    reset_peak();
    llama_context_params params = llama_context_default_params();
    params.n_ctx = uint32_t(n_prompt + n_gen + 255) / 256 * 256;
    params.n_batch = params.n_ctx;  // one batch: logits of its last token alone
    params.n_ubatch = uint32_t(n_ubatch);
    params.n_threads = params.n_threads_batch = n_threads;
    use_flash_attention(params);
    const std::unique_ptr<llama_context, decltype(&llama_free)> context(llama_init_from_model(model, params),
                                                                        llama_free);
    if (!context) give_up("no context of " + std::to_string(params.n_ctx) + " tokens");

    decode(context.get(), tokens.data(), std::min(n_prompt, 64), 0);
    clear_cache(context.get());
    const double prefill = seconds_of([&] { decode(context.get(), tokens.data(), n_prompt, 0); });
    const double answer = seconds_of([&] {
        for (int i = n_prompt; i < n_prompt + n_gen; ++i) decode(context.get(), &tokens[size_t(i)], 1, i);
    });
    std::printf("{\"n_prompt\": %d, \"prefill_seconds\": %.6f, \"decode_seconds\": %.6f, \"peak_rss_bytes\": %lld}\n",
                n_prompt, prefill, answer, peak_bytes());
    std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 8) give_up("usage: llama_driver MODEL TOKENS THREADS N_GEN UBATCH REPACK LENGTH...");
    llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
    llama_backend_init();
    llama_model_params params = llama_model_default_params();
    use_repacking(params, std::atoi(argv[6]) != 0);
    const std::unique_ptr<llama_model, decltype(&free_model)> model(llama_model_load_from_file(argv[1], params),
                                                                    free_model);
    if (!model) give_up(std::string(argv[1]) + " cannot be loaded");
    std::vector<llama_token> tokens = read_tokens(argv[2]);
    const int n_gen = std::atoi(argv[4]);
    for (int i = 7; i < argc; ++i) {
        const int n_prompt = std::atoi(argv[i]);
        if (size_t(n_prompt + n_gen) > tokens.size()) give_up("too few tokens for a prompt of " + std::string(argv[i]));
        measure(model.get(), tokens, n_prompt, n_gen, std::atoi(argv[3]), std::atoi(argv[5]));
    }
}
