// Asks a model about a document: answer MODEL.gguf DOCUMENT.txt "question"
#include <fastkv/fastkv.h>

#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

int main(int argc, char** argv) try {
    if (argc != 4) {
        std::fprintf(stderr, "usage: %s MODEL.gguf DOCUMENT.txt \"question\"\n", argv[0]);
        return 2;
    }
    std::ifstream file(argv[2], std::ios::binary);
    if (!file) fastkv::fail(std::string(argv[2]) + ": cannot be read");
    const std::string document(std::istreambuf_iterator<char>(file), {});

    // The prompt: the document and the question, in the model's own chat template.
    const auto model = fastkv::Model::load(argv[1]);
    const std::vector<fastkv::ChatMessage> chat = {{"user", document + "\n\n" + argv[3]}};
    const auto prompt = model.tokenize(model.chat_prompt(chat), /*add_special*/ false, /*parse_special*/ true);

    // Prefill, layer by layer: FastKV keeps a tenth of the cache and propagates a fifth of the tokens.
    fastkv::Session session(model, {.method = "fastkv", .retain_rate = 0.1, .tsp_rate = 0.2});
    session.prefill(prompt, [](const fastkv::PrefillProgress& progress) {
        std::fprintf(stderr, "\rlayer %d of %d", progress.layer + 1, progress.n_layer);
        return true;  // false would cancel
    });
    std::fprintf(stderr, "\n");

    // Decode, token by token, until the model ends its answer.
    fastkv::Sampler sampler(model, {.temperature = 0});
    for (int i = 0; i < 64; ++i) {
        const fastkv::Token token = sampler.sample(session.logits());
        if (model.is_end_of_generation(token)) break;
        std::fputs(model.piece(token).c_str(), stdout);
        session.decode(token);
    }
    std::printf("\n%d tokens read in %.2f s, cache %.1f MiB\n", session.n_prompt(), session.prefill_stats().seconds,
                double(session.memory().kv_cache_bytes) / (1 << 20));
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
