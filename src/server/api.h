// The endpoints: paths, methods, and what each answers.
#pragma once

#include <string>
#include <vector>

#include "server/http.h"
#include "server/keys.h"
#include "server/metrics.h"
#include "server/server.h"
#include "server/session_store.h"
#include "server/worker.h"

namespace fastkv::server {

class Api : public HttpHandler {
  public:
    /// `params` must outlive it.
    Api(Model model, const ServerParams& params);

    std::optional<HttpResponse> refuse_early(const HttpRequest& request) override;
    HttpResponse handle(const HttpRequest& request) override;
    HttpResponse error(int status, const std::string& message) override;

    Worker& worker() { return worker_; }

  private:
    struct Route {
        const char* method;
        const char* path;
        HttpResponse (Api::*answer)(const HttpRequest&);
    };
    static const Route* find_route(const std::string& path);

    HttpResponse page(const HttpRequest& request);
    HttpResponse health(const HttpRequest&);
    HttpResponse models(const HttpRequest&);
    HttpResponse chat_completions(const HttpRequest& request);
    HttpResponse completions(const HttpRequest& request);
    HttpResponse tokenize(const HttpRequest& request);
    HttpResponse detokenize(const HttpRequest& request);
    HttpResponse tokenizer_info(const HttpRequest&);
    HttpResponse props(const HttpRequest&);
    HttpResponse slots(const HttpRequest&);
    HttpResponse slot_action(const HttpRequest& request);
    HttpResponse save_slot(int slot, const std::string& name);
    HttpResponse restore_slot(int slot, const std::string& name);
    HttpResponse erase_slot(int slot);
    HttpResponse metrics(const HttpRequest&);

    HttpResponse answer(const HttpRequest& request, Result<AnswerRequest> wanted, bool chat);
    Result<std::shared_ptr<Task>> submit(AnswerRequest& wanted);
    Result<std::vector<std::vector<Token>>> tokens_of(const AnswerRequest& request) const;
    Result<int> document_size(const AnswerRequest& request, const std::vector<Token>& prompt) const;
    Result<MethodParams> method_of(const AnswerRequest& request) const;
    std::string special_token(std::optional<Token> token) const;
    int n_ctx() const { return params_.session.n_ctx; }

    const Model model_;
    const ServerParams& params_;
    const std::string name_;  // of the model
    const Keys keys_;
    Metrics metrics_;
    SessionStore store_;
    Worker worker_;  // the last: it uses the others
};

}  // namespace fastkv::server
