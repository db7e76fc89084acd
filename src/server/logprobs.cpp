#include "server/logprobs.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "text/format.h"
#include "text/utf8.h"

namespace fastkv::server {

using nlohmann::ordered_json;

TokenLogprob logprob_of(const Model& model, std::span<const float> logits, Token token, int n_top) {
    const float largest = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (const float logit : logits) sum += std::exp(double(logit) - double(largest));
    const auto logprob = [&](Token t) { return double(logits[size_t(t)]) - double(largest) - std::log(sum); };

    TokenLogprob result{.text = model.piece(token, /*special=*/true), .logprob = logprob(token), .top = {}};
    if (n_top == 0) return result;
    std::vector<Token> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    const auto n = std::min(size_t(n_top), order.size());
    const auto likelier = [&](Token a, Token b) {
        const float x = logits[size_t(a)], y = logits[size_t(b)];
        return x != y ? x > y : a < b;
    };
    std::partial_sort(order.begin(), order.begin() + ptrdiff_t(n), order.end(), likelier);
    for (size_t i = 0; i < n; ++i) result.top.emplace_back(model.piece(order[i], true), logprob(order[i]));
    return result;
}

namespace {

ordered_json token_json(const std::string& text, double logprob) {
    std::vector<int> bytes;
    for (const char c : text) bytes.push_back(static_cast<unsigned char>(c));
    return {{"token", text}, {"logprob", logprob}, {"bytes", bytes}};
}

}  // namespace

ordered_json chat_logprobs_json(std::span<const TokenLogprob> tokens) {
    ordered_json content = ordered_json::array();
    for (const TokenLogprob& token : tokens) {
        ordered_json& own = content.emplace_back(token_json(token.text, token.logprob.value_or(0)));
        own["top_logprobs"] = ordered_json::array();
        for (const auto& [text, logprob] : token.top) own["top_logprobs"].push_back(token_json(text, logprob));
    }
    return {{"content", content}};
}

namespace {

/// As OpenAI writes tokens that are no whole characters, which JSON cannot hold: "bytes:\\xe2\\x82".
std::string token_text(const std::string& bytes) {
    if (text::valid_utf8_prefix(bytes) == bytes.size()) return bytes;
    std::string name = "bytes:";
    for (const char c : bytes) name += text::format("\\x%02x", unsigned(static_cast<unsigned char>(c)));
    return name;
}

}  // namespace

ordered_json completion_logprobs_json(std::span<const TokenLogprob> tokens) {
    ordered_json texts = ordered_json::array(), logprobs = texts, tops = texts, offsets = texts;
    for (const TokenLogprob& token : tokens) {
        texts.push_back(token_text(token.text));
        offsets.push_back(token.begins_at);
        logprobs.push_back(token.logprob ? ordered_json(*token.logprob) : ordered_json());
        ordered_json top;  // null for the first token
        if (token.logprob) {
            top = ordered_json::object();
            for (const auto& [bytes, logprob] : token.top) {
                const std::string name = token_text(bytes);
                if (!top.contains(name)) top[name] = logprob;  // of two tokens with one text, the likelier
            }
            if (const std::string name = token_text(token.text); !top.contains(name)) top[name] = *token.logprob;
        }
        tops.push_back(top);
    }
    return {{"tokens", texts}, {"token_logprobs", logprobs}, {"top_logprobs", tops}, {"text_offset", offsets}};
}

}  // namespace fastkv::server
