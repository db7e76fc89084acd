// Any bytes as the body of a request: what is read is within its limits, what is refused is refused with a JSON object,
// and nothing is thrown. The first byte chooses the endpoint.
#include <cmath>
#include <cstdlib>

#include "fastkv/error.h"
#include "server/fields.h"
#include "server/request.h"

namespace {

using namespace fastkv;
using namespace fastkv::server;

constexpr int n_vocab = 1000;

void expect(bool holds) {
    if (!holds) std::abort();
}

void check_error(const ApiError& error) {
    expect(error.status == 400 && !error.message.empty());
    const auto object = nlohmann::json::parse(error_json(error));
    expect(object.at("error").at("message").is_string() && object.at("error").at("code") == 400);
}

void check_tokens(const std::vector<Token>& tokens) {
    for (const Token token : tokens) expect(token >= 0 && token < n_vocab);
}

/// As the server goes on with it: only Error may come.
void resolve_method(const MethodParams& method) {
    HyperParams hparams;
    hparams.arch = "llama";
    hparams.n_layer = 16;
    hparams.n_head = 8;
    hparams.n_head_kv = 2;
    try {
        (void)method_text(resolve(method, hparams));
    } catch (const Error&) {
    }
}

void check_answer(const Result<AnswerRequest>& result, bool chat) {
    if (!result) return check_error(result.error());
    const AnswerRequest& request = *result;
    const SamplerParams& sampler = request.sampler;
    expect(sampler.temperature >= 0 && std::isfinite(sampler.temperature));
    expect(sampler.top_p >= 0 && sampler.top_p <= 1 && sampler.min_p >= 0 && sampler.min_p <= 1);
    expect(sampler.top_k >= 0 && sampler.repeat_last_n >= 0 && sampler.repeat_penalty > 0);
    expect(request.max_tokens >= -1);
    expect(!request.n_logprobs || (*request.n_logprobs >= 0 && *request.n_logprobs <= 20));
    for (const std::string& stop : request.stop) expect(!stop.empty());
    expect(chat ? !request.messages.empty() && request.prompts.empty() : !request.prompts.empty());
    for (const PromptInput& prompt : request.prompts) check_tokens(prompt.tokens);
    for (const ChatMessage& message : request.messages) {
        expect(message.role == "system" || message.role == "user" || message.role == "assistant");
        expect(message.content.find('\0') == std::string::npos);
    }
    resolve_method(request.method);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0) return 0;
    const std::string body(reinterpret_cast<const char*>(data) + 1, size - 1);
    const auto object = parse_object(body);
    if (!object) {
        check_error(object.error());
        return 0;
    }
    const Defaults defaults;
    switch (data[0] % 4) {
        case 0: check_answer(parse_chat(*object, defaults), /*chat=*/true); break;
        case 1: check_answer(parse_completion(*object, defaults, n_vocab), /*chat=*/false); break;
        case 2:
            if (const auto request = parse_tokenize(*object); !request) check_error(request.error());
            break;
        case 3:
            if (const auto tokens = parse_detokenize(*object, n_vocab)) {
                check_tokens(*tokens);
            } else {
                check_error(tokens.error());
            }
            break;
    }
    return 0;
}
