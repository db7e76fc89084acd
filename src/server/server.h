// An OpenAI-compatible server over one model.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "fastkv/fastkv.h"
#include "server/http.h"
#include "server/request.h"
#include "server/session_store.h"
#include "server/worker.h"

namespace fastkv::server {

struct ServerParams {
    std::string host = "127.0.0.1";
    int port = 8080;                    ///< 0: a free one
    std::vector<std::string> api_keys;  ///< none: everybody may ask
    std::string alias;                  ///< the model's name to clients; "": its path
    int timeout_seconds = 600;          ///< for a request, waiting included; 0: none
    WorkerParams worker;
    StoreParams store;
    SessionParams session;  ///< n_ctx and the cache's types
    Defaults defaults;
    HttpLimits limits;
};

class Server {
  public:
    /// Listens at once. Throws Error: usage where the method's parameters do not fit the model, failure where it cannot
    /// listen.
    Server(Model model, ServerParams params);
    /// Ends all connections.
    ~Server();

    int port() const;

    /// Lets the answers under way end and refuses all other requests; returns when all have been sent.
    void finish();

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace fastkv::server
