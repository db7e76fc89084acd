#include "server/response.h"

#include <algorithm>
#include <chrono>
#include <random>

#include "server/logprobs.h"
#include "text/format.h"
#include "text/json.h"

namespace fastkv::server {

using nlohmann::ordered_json;

namespace {

std::string event(const ordered_json& value) { return "data: " + text::json_text(value) + "\n\n"; }

ordered_json logprobs_json(const ResponseShape& shape, const std::vector<TokenLogprob>& tokens) {
    if (!shape.with_logprobs) return nullptr;
    return shape.chat ? chat_logprobs_json(tokens) : completion_logprobs_json(tokens);
}

/// As in llama.cpp's server, and how long the client waited for the first token.
ordered_json timings_json(const Outcome& o) {
    const double prompt_ms = o.prompt_seconds * 1e3, predicted_ms = o.predicted_seconds * 1e3;
    const auto ratio = [](double a, double b) { return b > 0 ? a / b : 0.0; };
    const int n_decoded = std::max(0, o.n_predicted - 1);  // the first token comes with the prompt
    const int n_read = o.n_prompt - o.n_cached;
    return {{"cache_n", o.n_cached},
            {"prompt_n", n_read},
            {"prompt_ms", prompt_ms},
            {"prompt_per_token_ms", ratio(prompt_ms, n_read)},
            {"prompt_per_second", ratio(n_read, o.prompt_seconds)},
            {"predicted_n", o.n_predicted},
            {"predicted_ms", predicted_ms},
            {"predicted_per_token_ms", ratio(predicted_ms, n_decoded)},
            {"predicted_per_second", ratio(n_decoded, o.predicted_seconds)},
            {"first_token_ms", o.first_token_seconds * 1e3}};
}

ordered_json usage_json(const std::vector<Choice>& choices) {
    int64_t n_prompt = 0, n_cached = 0, n_predicted = 0;
    uint64_t kv_cache_bytes = 0;
    for (const Choice& choice : choices) {
        n_prompt += choice.outcome.n_prompt;
        n_cached += choice.outcome.n_cached;
        n_predicted += choice.outcome.n_predicted;
        kv_cache_bytes = std::max(kv_cache_bytes, choice.outcome.kv_cache_bytes);
    }
    const Outcome& last = choices.back().outcome;
    return {{"prompt_tokens", n_prompt},
            {"completion_tokens", n_predicted},
            {"total_tokens", n_prompt + n_predicted},
            {"prompt_tokens_details", {{"cached_tokens", n_cached}}},
            {"kept_tokens", {{"min", last.kept.min}, {"mean", last.kept.mean}, {"max", last.kept.max}}},
            {"kv_cache_bytes", kv_cache_bytes}};
}

ordered_json head_json(const ResponseShape& shape, const char* chat_object) {
    return {{"id", shape.id},
            {"object", shape.chat ? chat_object : "text_completion"},
            {"created", shape.created},
            {"model", shape.model}};
}

ordered_json chunk_json(const ResponseShape& shape, ordered_json choices) {
    ordered_json chunk = head_json(shape, "chat.completion.chunk");
    chunk["choices"] = std::move(choices);
    if (shape.include_usage) chunk["usage"] = nullptr;
    return chunk;
}

ordered_json choice_json(const ResponseShape& shape, int index, const std::string& text,
                         const std::vector<TokenLogprob>& logprobs, const char* finish_reason) {
    ordered_json choice = {{"index", index}};
    if (shape.chat) {
        choice["message"] = {{"role", "assistant"}, {"content", text}};
    } else {
        choice["text"] = text;
    }
    choice["logprobs"] = logprobs_json(shape, logprobs);
    choice["finish_reason"] = finish_reason;
    return choice;
}

ordered_json delta_choice(const ResponseShape& shape, int index, ordered_json delta, ordered_json finish_reason) {
    ordered_json choice = {{"index", index}};
    if (shape.chat) {
        choice["delta"] = std::move(delta);
    } else {
        choice["text"] = delta.value("content", "");
    }
    choice["logprobs"] = nullptr;
    choice["finish_reason"] = std::move(finish_reason);
    return choice;
}

}  // namespace

ResponseShape new_shape(bool chat, const std::string& model) {
    thread_local std::mt19937_64 random(std::random_device{}());
    ResponseShape shape{.chat = chat, .model = model, .id = chat ? "chatcmpl-" : "cmpl-"};
    shape.id += text::format("%016llx", static_cast<unsigned long long>(random()));
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    shape.created = std::chrono::duration_cast<std::chrono::seconds>(now).count();
    return shape;
}

ordered_json method_json(const MethodParams& method) {
    ordered_json object = {{"method", method.method}};
    object.update(text::params_json(method));
    return object;
}

std::string response_json(const ResponseShape& shape, const std::vector<Choice>& choices) {
    ordered_json response = head_json(shape, "chat.completion");
    response["choices"] = ordered_json::array();
    for (const Choice& choice : choices) {
        response["choices"].push_back(
            choice_json(shape, choice.outcome.index, choice.text, choice.logprobs, choice.outcome.finish_reason));
    }
    response["usage"] = usage_json(choices);
    response["timings"] = timings_json(choices.back().outcome);
    response["fastkv"] = method_json(choices.back().outcome.method);
    if (choices.back().report) response["fastkv"].update(report_json(*choices.back().report));
    return text::json_text(response);
}

std::string first_chunk(const ResponseShape& shape) {
    if (!shape.chat) return "";
    return event(chunk_json(shape, {delta_choice(shape, 0, {{"role", "assistant"}, {"content", ""}}, nullptr)}));
}

std::string piece_chunk(const ResponseShape& shape, const Piece& piece) {
    ordered_json choice = delta_choice(shape, piece.index, {{"content", piece.text}}, nullptr);
    if (shape.with_logprobs) choice["logprobs"] = logprobs_json(shape, piece.logprobs);
    ordered_json chunk = chunk_json(shape, ordered_json::array({choice}));
    if (piece.report) chunk["fastkv"] = report_json(*piece.report);
    return event(chunk);
}

std::string outcome_chunk(const ResponseShape& shape, const Outcome& outcome) {
    ordered_json chunk = chunk_json(
        shape,
        ordered_json::array({delta_choice(shape, outcome.index, ordered_json::object(), outcome.finish_reason)}));
    chunk["timings"] = timings_json(outcome);
    chunk["fastkv"] = method_json(outcome.method);
    return event(chunk);
}

std::string usage_chunk(const ResponseShape& shape, const std::vector<Choice>& choices) {
    if (!shape.include_usage) return "";
    ordered_json chunk = chunk_json(shape, ordered_json::array());
    chunk["usage"] = usage_json(choices);
    return event(chunk);
}

}  // namespace fastkv::server
