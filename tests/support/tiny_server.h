// What tests of fastkv serve share: the model that is served, how, and what the server counts.
#pragma once

#include <string>

#include "server/server.h"
#include "support/http.h"
#include "support/tiny_model.h"

namespace fastkv::test {

inline const Model& served_model() {
    static const Model loaded = Model::load(tiny_model_path(), {.n_threads = 1});
    return loaded;
}

/// On any port, for short answers.
inline server::ServerParams server_params() {
    server::ServerParams params;
    params.port = 0;
    params.alias = "tiny";
    params.defaults.n_predict = 8;
    return params;
}

/// A number of GET /metrics; -1: there is none of that name.
inline double metric(int port, const std::string& name) {
    const std::string metrics = ask(port, request_text("GET", "/metrics")).body;
    const size_t at = metrics.find("\nfastkv:" + name + " ");
    return at == std::string::npos ? -1 : std::stod(metrics.substr(at + 9 + name.size()));
}

}  // namespace fastkv::test
