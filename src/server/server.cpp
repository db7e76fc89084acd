#include "server/server.h"

#include <chrono>
#include <thread>
#include <utility>

#include "server/api.h"

namespace fastkv::server {

struct Server::Impl {
    ServerParams params;
    Api api;
    HttpServer http;

    Impl(Model model, ServerParams p)
        : params(std::move(p)), api(std::move(model), params), http(params.host, params.port, params.limits, api) {}
};

namespace {

ServerParams checked(const Model& model, ServerParams params) {
    resolve(params.defaults.method, model.hparams());
    if (params.session.n_ctx == 0) params.session.n_ctx = model.hparams().n_ctx_train;
    return params;
}

}  // namespace

Server::Server(Model model, ServerParams params) {
    ServerParams complete = checked(model, std::move(params));
    impl_ = std::make_unique<Impl>(std::move(model), std::move(complete));
}

Server::~Server() = default;

int Server::port() const { return impl_->http.port(); }

void Server::finish() {
    impl_->api.worker().end();
    while (impl_->http.n_active() > 0) std::this_thread::sleep_for(std::chrono::milliseconds(20));
}

}  // namespace fastkv::server
