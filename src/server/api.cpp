#include "server/api.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <ctime>
#include <span>
#include <utility>

#include "server/answer_stream.h"
#include "server/fields.h"
#include "server/page.h"
#include "text/json.h"

namespace fastkv::server {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {

HttpResponse respond(const ordered_json& body) {
    return {.content_type = "application/json", .body = text::json_text(body)};
}

HttpResponse respond(const ApiError& error) {
    HttpResponse response{.status = error.status, .content_type = "application/json", .body = error_json(error)};
    if (error.retry_after > 0) response.headers.emplace_back("Retry-After", std::to_string(error.retry_after));
    if (!error.allow.empty()) response.headers.emplace_back("Allow", error.allow);
    if (error.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
    return response;
}

// A body's JSON may take many times its bytes: it is gone when the answer is waited for.

Result<AnswerRequest> chat_request(const std::string& body, const Defaults& defaults) {
    const auto object = parse_object(body);
    if (!object) return object.error();
    return parse_chat(*object, defaults);
}

Result<AnswerRequest> completion_request(const std::string& body, const Defaults& defaults, int n_vocab) {
    const auto object = parse_object(body);
    if (!object) return object.error();
    return parse_completion(*object, defaults, n_vocab);
}

/// A document is read before it is known what will be asked: where the method can, any question scores its tokens.
MethodParams with_score(const AnswerRequest& request) {
    MethodParams method = request.method;
    if (request.document_id.empty() || method.score) return method;
    for (const MethodInfo& info : list_methods()) {
        const bool can = std::find(info.params.begin(), info.params.end(), "score") != info.params.end();
        if (info.name == method.method && can) method.score = ScoreBy::expected;
    }
    return method;
}

ApiError empty_slot(int slot) {
    return {.status = 404, .message = "slot " + std::to_string(slot) + " has no session (any more)"};
}

double milliseconds_since(Clock::time_point start) {
    return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

/// Paths that need no key: the page has no secrets, and asks for the key itself.
bool is_open(const std::string& path) { return path == "/health" || path == "/v1/health" || find_page_file(path); }

}  // namespace

Api::Api(Model model, const ServerParams& params)
    : model_(std::move(model)),
      params_(params),
      name_(params.alias.empty() ? model_.path() : params.alias),
      keys_(params.api_keys),
      store_(model_, params.session, params.store),
      worker_(model_, params.worker, metrics_, store_) {}

// ---- which endpoint ----

/// nullptr where there is none.
const Api::Route* Api::find_route(const std::string& path) {
    static const std::vector<Route> all = {{"GET", "/health", &Api::health},
                                           {"GET", "/v1/health", &Api::health},
                                           {"GET", "/v1/models", &Api::models},
                                           {"POST", "/v1/chat/completions", &Api::chat_completions},
                                           {"POST", "/v1/completions", &Api::completions},
                                           {"POST", "/tokenize", &Api::tokenize},
                                           {"POST", "/detokenize", &Api::detokenize},
                                           {"GET", "/tokenizer_info", &Api::tokenizer_info},
                                           {"GET", "/props", &Api::props},
                                           {"GET", "/slots", &Api::slots},
                                           {"POST", "/slots/", &Api::slot_action},
                                           {"GET", "/metrics", &Api::metrics}};
    static const Route page = {"GET", "/", &Api::page};  // its files have paths of their own
    if (find_page_file(path)) return &page;
    const auto leads = [&](const Route& route) {
        return path == route.path || (std::string_view(route.path).ends_with('/') && path.starts_with(route.path));
    };
    const auto found = std::find_if(all.begin(), all.end(), leads);
    return found == all.end() ? nullptr : &*found;
}

std::optional<HttpResponse> Api::refuse_early(const HttpRequest& request) {
    if (!is_open(request.path) && !keys_.allow(request.authorization, request.x_api_key)) {
        return respond(ApiError{.status = 401, .message = "a valid API key is needed: Authorization: Bearer KEY"});
    }
    const Route* route = find_route(request.path);
    if (!route) return error(404, "there is no " + request.path);
    const bool head = request.method == "HEAD" && std::strcmp(route->method, "GET") == 0;
    if (request.method == route->method || head) return {};
    return respond(ApiError{
        .status = 405, .message = request.path + " takes " + route->method + " requests", .allow = route->method});
}

HttpResponse Api::handle(const HttpRequest& request) {
    const Route* route = find_route(request.path);
    return route ? (this->*route->answer)(request) : error(404, "there is no " + request.path);
}

HttpResponse Api::error(int status, const std::string& message) {
    return respond(ApiError{.status = status, .message = message});
}

// ---- the page ----

HttpResponse Api::page(const HttpRequest& request) {
    const PageFile& file = *find_page_file(request.path);
    return {.content_type = file.content_type,
            .body = std::string(file.body),
            .headers = {{"Content-Security-Policy",
                         "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
                        {"X-Content-Type-Options", "nosniff"},
                        {"Referrer-Policy", "no-referrer"},
                        {"Cache-Control", "no-cache"}}};  // a newer server may have a newer page
}

// ---- answers ----

HttpResponse Api::chat_completions(const HttpRequest& request) {
    return answer(request, chat_request(request.body, params_.defaults), /*chat=*/true);
}

HttpResponse Api::completions(const HttpRequest& request) {
    const int n_vocab = model_.hparams().n_vocab;
    return answer(request, completion_request(request.body, params_.defaults, n_vocab), /*chat=*/false);
}

/// The prompts as the model reads them, each within the context.
Result<std::vector<std::vector<Token>>> Api::tokens_of(const AnswerRequest& request) const {
    std::vector<std::vector<Token>> all;
    const auto add = [&](const std::string& text) { all.push_back(model_.tokenize(text, true, true)); };
    const char* param = request.messages.empty() ? "prompt" : "messages";
    try {
        if (!request.messages.empty()) add(model_.chat_prompt(request.messages));
        for (const PromptInput& prompt : request.prompts) {
            if (prompt.text) {
                add(*prompt.text);
            } else {
                all.push_back(prompt.tokens);
            }
        }
    } catch (const Error& error) {
        return ApiError{.message = error.what(), .param = param};
    }
    for (const auto& prompt : all) {
        if (prompt.empty()) return ApiError{.message = "the prompt is empty", .param = param};
        if (int(prompt.size()) <= n_ctx()) continue;
        return ApiError{.message = "the prompt has " + std::to_string(prompt.size()) + " tokens, the context holds " +
                                   std::to_string(n_ctx()),
                        .param = param};
    }
    return all;
}

/// How many tokens of the prompt are those of the messages before the last; 0 where no document is named.
Result<int> Api::document_size(const AnswerRequest& request, const std::vector<Token>& prompt) const {
    if (request.document_id.empty()) return 0;
    try {
        const std::span before = std::span(request.messages).first(request.messages.size() - 1);
        const auto tokens = model_.tokenize(model_.chat_prompt(before, /*add_generation_prompt=*/false), true, true);
        const auto end = std::mismatch(prompt.begin(), prompt.end(), tokens.begin(), tokens.end()).first;
        const int n = int(end - prompt.begin());
        if (n > 0 && n < int(prompt.size())) return n;
        fail("the messages before the last one are empty");
    } catch (const Error& error) {
        return ApiError{.message = error.what(), .param = "fastkv.document_id"};
    }
}

Result<MethodParams> Api::method_of(const AnswerRequest& request) const {
    try {
        const MethodParams method = resolve(with_score(request), model_.hparams());
        if (request.echo && request.n_logprobs && request.names_method && method.method != "fullkv") {
            return ApiError{.message =
                                "log-probabilities of the prompt are the whole model's: with echo and logprobs "
                                "leave \"fastkv\" out, or take the method fullkv",
                            .param = "fastkv"};
        }
        return method;
    } catch (const Error& error) {
        return ApiError{.message = error.what(), .param = "fastkv"};
    }
}

/// The task, which is the worker's from now on. Of a long request little else is left: its texts are taken.
Result<std::shared_ptr<Task>> Api::submit(AnswerRequest& wanted) {
    auto prompts = tokens_of(wanted);
    if (!prompts) return prompts.error();
    auto method = method_of(wanted);
    if (!method) return method.error();
    const auto n_document = document_size(wanted, prompts->front());
    if (!n_document) return n_document.error();
    wanted.messages.clear();
    wanted.prompts.clear();

    auto task = std::make_shared<Task>(TaskParams{.prompts = std::move(*prompts),
                                                  .method = std::move(*method),
                                                  .session = params_.session,
                                                  .sampler = wanted.sampler,
                                                  .max_tokens = wanted.max_tokens,
                                                  .stop = std::move(wanted.stop),
                                                  .n_logprobs = wanted.n_logprobs,
                                                  .echo = wanted.echo,
                                                  .report_layers = wanted.report_layers,
                                                  .reuse = wanted.reuse && !wanted.report_layers,
                                                  .document_id = std::move(wanted.document_id),
                                                  .n_document = *n_document});
    switch (worker_.submit(task)) {
        case Worker::Admission::full:
            return ApiError{.status = 429, .message = "too many requests wait already", .retry_after = 2};
        case Worker::Admission::ending: return stopping();
        case Worker::Admission::taken: break;
    }
    return task;
}

HttpResponse Api::answer(const HttpRequest& request, Result<AnswerRequest> wanted, bool chat) {
    if (!wanted) return respond(wanted.error());
    const auto task = submit(*wanted);
    if (!task) return respond(task.error());
    ResponseShape shape = new_shape(chat, name_);
    shape.with_logprobs = wanted->n_logprobs.has_value();
    shape.include_usage = wanted->include_usage;
    const auto limit = std::chrono::seconds(params_.timeout_seconds);
    const auto deadline = params_.timeout_seconds > 0 ? (*task)->came + limit : Clock::time_point::max();
    const Awaited awaited{*task, std::move(shape), request.client_gone, deadline};
    if (!wanted->stream) {
        auto whole = whole_answer(awaited);
        if (!whole) return respond(whole.error());
        return {.content_type = "application/json", .body = std::move(*whole)};
    }
    return {.content_type = "text/event-stream",
            .headers = {{"Cache-Control", "no-cache"}},
            .stream = answer_stream(awaited)};
}

// ---- the tokenizer ----

HttpResponse Api::tokenize(const HttpRequest& request) {
    auto body = parse_object(request.body);
    if (!body) return respond(body.error());
    const auto wanted = parse_tokenize(*body);
    if (!wanted) return respond(wanted.error());
    const auto tokens = model_.tokenize((*wanted).text, (*wanted).add_special, (*wanted).parse_special);
    ordered_json list = tokens;
    if ((*wanted).with_pieces) {
        for (ordered_json& item : list) item = {{"id", item}, {"piece", model_.piece(item.get<Token>(), true)}};
    }
    return respond(ordered_json{{"tokens", list}, {"count", tokens.size()}, {"max_model_len", n_ctx()}});
}

HttpResponse Api::detokenize(const HttpRequest& request) {
    auto body = parse_object(request.body);
    if (!body) return respond(body.error());
    const auto tokens = parse_detokenize(*body, model_.hparams().n_vocab);
    if (!tokens) return respond(tokens.error());
    const std::string text = model_.detokenize(*tokens, /*special=*/true);
    return respond(ordered_json{{"content", text}, {"prompt", text}});
}

std::string Api::special_token(std::optional<Token> token) const { return token ? model_.piece(*token, true) : ""; }

HttpResponse Api::tokenizer_info(const HttpRequest&) {
    ordered_json info = {{"bos_token", nullptr},
                         {"eos_token", nullptr},
                         {"chat_template", model_.chat_template()},
                         {"model_max_length", n_ctx()}};
    if (model_.bos_token()) info["bos_token"] = special_token(model_.bos_token());
    if (model_.eos_token()) info["eos_token"] = special_token(model_.eos_token());
    return respond(info);
}

// ---- the server ----

HttpResponse Api::health(const HttpRequest&) {
    if (worker_.ending()) return respond(ApiError{.status = 503, .message = "the server is stopping"});
    return respond(ordered_json{{"status", "ok"}});
}

HttpResponse Api::models(const HttpRequest&) {
    const HyperParams& hp = model_.hparams();
    const ordered_json meta = {{"n_vocab", hp.n_vocab},
                               {"n_ctx_train", hp.n_ctx_train},
                               {"n_embd", hp.n_embd},
                               {"n_params", hp.n_params},
                               {"size", hp.weights_bytes}};
    const ordered_json model = {
        {"id", name_}, {"object", "model"}, {"created", std::time(nullptr)}, {"owned_by", "fastkv"}, {"meta", meta}};
    return respond(ordered_json{{"object", "list"}, {"data", ordered_json::array({model})}});
}

HttpResponse Api::props(const HttpRequest&) {
    const SamplerParams& sampler = params_.defaults.sampler;
    const ordered_json params = {{"temperature", sampler.temperature},
                                 {"top_k", sampler.top_k},
                                 {"top_p", sampler.top_p},
                                 {"min_p", sampler.min_p},
                                 {"max_tokens", params_.defaults.n_predict}};
    ordered_json methods = ordered_json::array();
    for (const MethodInfo& method : list_methods()) {
        methods.push_back({{"name", method.name}, {"summary", method.summary}, {"params", method.params}});
    }
    const MethodParams method = resolve(params_.defaults.method, model_.hparams());
    return respond(ordered_json{{"default_generation_settings", {{"n_ctx", n_ctx()}, {"params", params}}},
                                {"total_slots", params_.worker.n_parallel},
                                {"model_alias", name_},
                                {"model_path", model_.path()},
                                {"chat_template", model_.chat_template()},
                                {"has_chat_template", model_.has_chat_template()},
                                {"bos_token", special_token(model_.bos_token())},
                                {"eos_token", special_token(model_.eos_token())},
                                {"build_info", std::string("fastkv ") + version()},
                                {"method", method_text(method)},
                                {"fastkv", method_json(method)},
                                {"methods", methods}});
}

HttpResponse Api::slots(const HttpRequest&) {
    ordered_json list = ordered_json::array();
    for (const SlotState& slot : worker_.slots()) {
        list.push_back({{"id", slot.id},
                        {"n_ctx", n_ctx()},
                        {"is_processing", slot.is_processing},
                        {"n_prompt_tokens", slot.n_prompt_tokens},
                        {"n_decoded", slot.n_decoded}});
    }
    return respond(list);
}

/// POST /slots/{id}?action=save|restore|erase, with {"filename": name}, as in llama.cpp's server.
HttpResponse Api::slot_action(const HttpRequest& request) {
    const std::string number = request.path.substr(std::strlen("/slots/"));
    int slot = -1;
    const auto [end, problem] = std::from_chars(number.data(), number.data() + number.size(), slot);
    const int n_slot = params_.worker.n_parallel;
    if (problem != std::errc() || end != number.data() + number.size() || slot < 0 || slot >= n_slot) {
        return respond(ApiError{
            .status = 404, .message = "there is no slot " + number + ": they are 0 to " + std::to_string(n_slot - 1)});
    }
    const auto action = request.query.find("action");
    const std::string name = action == request.query.end() ? "" : action->second;
    if (name == "erase") return erase_slot(slot);
    if (name != "save" && name != "restore") {
        return respond(ApiError{.message = "action: must be save, restore or erase", .param = "action"});
    }
    if (!store_.has_folder() || !store_.keeps()) {
        return respond(ApiError{.status = 501, .message = "sessions are saved where the server has --session-dir"});
    }
    const auto body = parse_object(request.body);
    if (!body) return respond(body.error());
    const auto file = parse_slot_file(*body);
    if (!file) return respond(file.error());
    try {
        return name == "save" ? save_slot(slot, *file) : restore_slot(slot, *file);
    } catch (const Error& error) {
        return respond(ApiError{.status = name == "save" ? 503 : 400, .message = error.what()});
    }
}

HttpResponse Api::save_slot(int slot, const std::string& name) {
    const Clock::time_point start = Clock::now();
    const auto file = store_.save(worker_.slots()[size_t(slot)].session, name);
    if (!file) return respond(empty_slot(slot));
    return respond(ordered_json{{"id_slot", slot},
                                {"filename", name},
                                {"n_saved", file->n_tokens},
                                {"n_written", file->bytes},
                                {"timings", {{"save_ms", milliseconds_since(start)}}}});
}

HttpResponse Api::restore_slot(int slot, const std::string& name) {
    const Clock::time_point start = Clock::now();
    uint64_t session = 0;
    const SessionStore::File file = store_.restore(name, session);
    worker_.set_session(slot, session);
    return respond(ordered_json{{"id_slot", slot},
                                {"filename", name},
                                {"n_restored", file.n_tokens},
                                {"n_read", file.bytes},
                                {"timings", {{"restore_ms", milliseconds_since(start)}}}});
}

HttpResponse Api::erase_slot(int slot) {
    const auto n_tokens = store_.erase(worker_.slots()[size_t(slot)].session);
    worker_.set_session(slot, 0);
    if (!n_tokens) return respond(empty_slot(slot));
    return respond(ordered_json{{"id_slot", slot}, {"n_erased", *n_tokens}});
}

HttpResponse Api::metrics(const HttpRequest&) {
    const auto slots = worker_.slots();
    const auto busy = std::count_if(slots.begin(), slots.end(), [](const SlotState& s) { return s.is_processing; });
    const auto [n_session, session_bytes] = store_.usage();
    const MetricsNow now{.processing = int(busy),
                         .deferred = worker_.n_waiting(),
                         .sessions = n_session,
                         .session_bytes = session_bytes};
    return {.content_type = "text/plain; version=0.0.4", .body = metrics_text(metrics_, now)};
}

}  // namespace fastkv::server
