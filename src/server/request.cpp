#include "server/request.h"

#include <climits>
#include <utility>

#include "server/fields.h"

namespace fastkv::server {

using nlohmann::json;

namespace {

constexpr int max_logprobs = 20;

// ---- what every answer has ----

/// Fields that OpenAI knows and this server has not: leaving them out of account would give another answer than asked
/// for. What says that nothing is wanted is fine.
void refuse_unsupported(Fields& fields) {
    for (const char* name : {"tools", "functions", "logit_bias"}) {
        if (const json* value = fields.find(name); value && !value->empty()) fields.refuse(name, "is not supported");
    }
    if (const json* format = fields.find("response_format")) {
        const bool plain = format->is_object() && format->value("type", json()) == "text";
        if (!plain) fields.refuse("response_format", "only {\"type\": \"text\"} is supported");
    }
    for (const char* name : {"n", "best_of"}) {
        if (fields.integer(name, 1, INT_MAX).value_or(1) > 1) fields.refuse(name, "only one answer is given, 1");
    }
}

SamplerParams sampler_of(Fields& fields, const SamplerParams& defaults) {
    SamplerParams params = defaults;
    const auto number = [&](const char* name, double least, double most, float& value) {
        value = float(fields.number(name, least, most).value_or(value));
    };
    number("temperature", 0, 100, params.temperature);
    number("top_p", 0, 1, params.top_p);
    number("min_p", 0, 1, params.min_p);
    number("repeat_penalty", 0.01, 100, params.repeat_penalty);
    number("frequency_penalty", -2, 2, params.frequency_penalty);
    number("presence_penalty", -2, 2, params.presence_penalty);
    params.top_k = int(fields.integer("top_k", 0, INT_MAX).value_or(params.top_k));
    params.repeat_last_n = int(fields.integer("repeat_last_n", 0, 1 << 20).value_or(params.repeat_last_n));
    params.ignore_eos = fields.flag("ignore_eos", params.ignore_eos);
    // any whole number is a seed; of long ones the lower bits, and -1 is a random one
    if (const auto seed = fields.integer("seed", -(int64_t{1} << 53), int64_t{1} << 53)) params.seed = uint32_t(*seed);
    return params;
}

int max_tokens_of(Fields& fields, int n_predict) {
    const auto newer = fields.integer("max_completion_tokens", -1, INT_MAX);
    const auto older = fields.integer("max_tokens", -1, INT_MAX);
    return int(newer.value_or(older.value_or(n_predict)));
}

std::vector<std::string> stop_of(Fields& fields) {
    std::vector<std::string> stop = fields.texts("stop");
    for (const std::string& text : stop) {
        if (text.empty()) fields.refuse("stop", "an empty text would end every answer");
    }
    return stop;
}

/// A parameter's value as set_param() reads it; nothing for a list or an object.
std::optional<std::string> param_value(const json& value) {
    if (value.is_string()) return value.get<std::string>();
    if (value.is_number()) return value.dump();
    return {};
}

/// Whether `name` is that of a file in a folder and cannot be anything else, nor one of the server's own.
bool is_plain_name(const std::string& name) {
    const auto allowed = [](unsigned char c) { return c > ' ' && c != '/' && c != '\\' && c != 127; };
    return !name.empty() && name.size() <= 200 && name[0] != '.' && std::all_of(name.begin(), name.end(), allowed);
}

/// What "fastkv" says besides the method and its parameters.
bool is_other_field(const std::string& name) { return name == "layers" || name == "reuse" || name == "document_id"; }

/// "fastkv": {"reuse": ..., "document_id": ...}, and llama.cpp's "cache_prompt".
void read_session_fields(Fields& fields, AnswerRequest& request) {
    request.reuse = fields.flag("cache_prompt", true);
    const json* given = fields.find("fastkv");
    if (!given || !given->is_object()) return;
    Fields own(*given);
    request.reuse = own.flag("reuse", request.reuse);
    if (own.error()) return fields.refuse("fastkv.reuse", "must be true or false");
    request.document_id = own.text("document_id").value_or("");
    if (own.error()) return fields.refuse("fastkv.document_id", "must be a text");
    if (request.document_id.empty()) return;
    const char* name = "fastkv.document_id";
    if (request.document_id.size() > 200) fields.refuse(name, "is longer than 200 bytes");
    if (!request.reuse) fields.refuse(name, "needs stored sessions, which the request switches off");
    if (request.messages.size() < 2) {
        fields.refuse(name, "needs a chat: the last message is the question, those before it are the document");
    }
}

/// "fastkv": {"method": ..., "retain_rate": ..., "layers": true}. With the server's method its parameters hold where
/// the request names no others, and null takes one back; with another method none of them.
void read_method(Fields& fields, AnswerRequest& request, const MethodParams& defaults) {
    request.method = defaults;
    const json* given = fields.find("fastkv");
    if (!given) return;
    if (!given->is_object()) return fields.refuse("fastkv", "must be an object of a method and its parameters");
    Fields own(*given);
    const std::string method = own.text("method").value_or(defaults.method);
    if (own.error()) return fields.refuse("fastkv.method", "must be a text");
    request.report_layers = own.flag("layers", false);
    if (own.error()) return fields.refuse("fastkv.layers", "must be true or false");
    if (method != defaults.method) request.method = MethodParams{.method = method};
    for (const auto& [name, value] : given->items()) {
        if (is_other_field(name)) continue;
        request.names_method = true;
        if (name == "method") continue;
        const auto text = value.is_null() ? "" : param_value(value);
        try {
            if (!text) refuse("must be a number or a word");
            if (value.is_null()) {
                clear_param(request.method, name);
            } else {
                set_param(request.method, name, *text);
            }
        } catch (const Error& error) {
            fields.refuse("fastkv." + name, error.what());
        }
    }
}

void read_common(Fields& fields, AnswerRequest& request, const Defaults& defaults) {
    refuse_unsupported(fields);
    (void)fields.text("model");  // there is one, whatever it is called; but a name it must be
    request.sampler = sampler_of(fields, defaults.sampler);
    request.max_tokens = max_tokens_of(fields, defaults.n_predict);
    request.stop = stop_of(fields);
    request.stream = fields.flag("stream", false);
    read_method(fields, request, defaults.method);
    read_session_fields(fields, request);
    if (const json* options = fields.find("stream_options")) {
        if (!options->is_object()) return fields.refuse("stream_options", "must be an object");
        Fields own(*options);
        request.include_usage = own.flag("include_usage", false);
        if (own.error()) fields.refuse("stream_options." + own.error()->param, "must be true or false");
    }
}

Result<AnswerRequest> checked(const Fields& fields, AnswerRequest request) {
    if (fields.error()) return *fields.error();
    return request;
}

// ---- messages ----

/// A message's content: a text, or parts of type text, which are put together.
std::optional<std::string> content_of(const json& message) {
    const auto found = message.find("content");
    if (found == message.end() || found->is_null()) return "";
    if (found->is_string()) return found->get<std::string>();
    if (!found->is_array()) return {};
    std::string text;
    for (const json& part : *found) {
        if (!part.is_object() || part.value("type", json()) != "text") return {};
        const auto own = part.find("text");
        if (own == part.end() || !own->is_string()) return {};
        text += own->get<std::string>();
    }
    return text;
}

/// Templates know three roles; OpenAI's `developer` is its newer name for `system`.
std::optional<std::string> role_of(const json& message) {
    const json role = message.value("role", json());
    if (role == "developer") return "system";
    if (role == "system" || role == "user" || role == "assistant") return role.get<std::string>();
    return {};
}

std::vector<ChatMessage> messages_of(Fields& fields) {
    const json* list = fields.find("messages");
    std::vector<ChatMessage> messages;
    for (const json& message : list && list->is_array() ? *list : json::array()) {
        const std::string place = "messages[" + std::to_string(messages.size()) + "]";
        const auto role = message.is_object() ? role_of(message) : std::nullopt;
        if (!role) fields.refuse(place + ".role", "must be system, developer, user or assistant");
        const auto content = role ? content_of(message) : std::nullopt;
        if (role && !content) fields.refuse(place + ".content", "must be a text, or a list of parts of type text");
        if (content && content->find('\0') != std::string::npos) {
            fields.refuse(place + ".content", "contains a zero byte");
        }
        messages.push_back({role.value_or(""), content.value_or("")});
    }
    if (messages.empty()) fields.refuse("messages", "must be a list of at least one message");
    return messages;
}

/// "logprobs": true and "top_logprobs": N
std::optional<int> chat_logprobs(Fields& fields) {
    const bool wanted = fields.flag("logprobs", false);
    const auto n_top = fields.integer("top_logprobs", 0, max_logprobs);
    if (n_top && !wanted) fields.refuse("top_logprobs", "needs \"logprobs\": true");
    return wanted ? std::optional<int>(int(n_top.value_or(0))) : std::nullopt;
}

// ---- prompts ----

std::vector<PromptInput> prompts_of(Fields& fields, int n_vocab) {
    const std::string expected = "must be a text, a list of token ids below " + std::to_string(n_vocab) +
                                 ", or a list of texts or of such lists";
    const json* prompt = fields.find("prompt");
    if (!prompt) fields.refuse("prompt", expected);
    if (!prompt) return {};
    std::vector<Token> tokens;
    std::vector<PromptInput> prompts;
    if (prompt->is_string()) {
        prompts.push_back({.text = prompt->get<std::string>()});
        return prompts;
    }
    if (prompt->is_array() && !prompt->empty() && read_tokens(*prompt, n_vocab, tokens)) {
        prompts.push_back({.text = {}, .tokens = std::move(tokens)});
        return prompts;
    }
    for (const json& item : prompt->is_array() ? *prompt : json::array()) {
        std::vector<Token> own;
        if (item.is_string()) {
            prompts.push_back({.text = item.get<std::string>()});
        } else if (read_tokens(item, n_vocab, own)) {
            prompts.push_back({.text = {}, .tokens = std::move(own)});
        } else {
            fields.refuse("prompt", expected);
        }
    }
    if (prompts.empty()) fields.refuse("prompt", expected);
    return prompts;
}

/// "logprobs": N; true counts as 0 alternatives, false as none.
std::optional<int> completion_logprobs(Fields& fields) {
    const json* value = fields.find("logprobs");
    if (value && value->is_boolean()) return value->get<bool>() ? std::optional<int>(0) : std::nullopt;
    const auto n_top = fields.integer("logprobs", 0, max_logprobs);
    return n_top ? std::optional<int>(int(*n_top)) : std::nullopt;
}

}  // namespace

Result<AnswerRequest> parse_chat(const json& body, const Defaults& defaults) {
    Fields fields(body);
    AnswerRequest request;
    request.messages = messages_of(fields);
    request.n_logprobs = chat_logprobs(fields);
    read_common(fields, request, defaults);
    return checked(fields, std::move(request));
}

Result<AnswerRequest> parse_completion(const json& body, const Defaults& defaults, int n_vocab) {
    Fields fields(body);
    AnswerRequest request;
    request.prompts = prompts_of(fields, n_vocab);
    request.n_logprobs = completion_logprobs(fields);
    request.echo = fields.flag("echo", false);
    if (const json* suffix = fields.find("suffix"); suffix && *suffix != "") {
        fields.refuse("suffix", "is not supported");
    }
    read_common(fields, request, defaults);
    return checked(fields, std::move(request));
}

Result<TokenizeRequest> parse_tokenize(const json& body) {
    Fields fields(body);
    TokenizeRequest request;
    const auto content = fields.text("content");
    const auto prompt = content ? std::nullopt : fields.text("prompt");
    if (!content && !prompt) fields.refuse("content", "is missing: the text, as \"content\" or as \"prompt\"");
    request.text = content.value_or(prompt.value_or(""));
    request.add_special = content ? fields.flag("add_special", false) : fields.flag("add_special_tokens", true);
    request.parse_special = fields.flag("parse_special", true);
    request.with_pieces = fields.flag("with_pieces", false);
    if (fields.error()) return *fields.error();
    return request;
}

Result<std::string> parse_slot_file(const json& body) {
    Fields fields(body);
    const auto name = fields.text("filename");
    if (!name) fields.refuse("filename", "is missing: the name of a file in the folder of sessions");
    if (name && !is_plain_name(*name)) {
        fields.refuse("filename", "must be a plain file name: no folders, spaces or dots in front");
    }
    if (fields.error()) return *fields.error();
    return *name;
}

Result<std::vector<Token>> parse_detokenize(const json& body, int n_vocab) {
    Fields fields(body);
    auto tokens = fields.tokens("tokens", n_vocab);
    if (!tokens) fields.refuse("tokens", "is missing: a list of token ids");
    if (fields.error()) return *fields.error();
    return std::move(*tokens);
}

}  // namespace fastkv::server
