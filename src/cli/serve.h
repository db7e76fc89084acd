// fastkv serve: an OpenAI-compatible server.
#pragma once

#include <string>
#include <vector>

#include "cli/options.h"
#include "server/server.h"

namespace fastkv::cli {

struct ServeOptions {
    ModelOptions model;
    MethodOptions method;
    SamplerParams sampler;
    int n_predict = -1;
    server::ServerParams server;
    std::string api_key_file;
};

void add_serve_command(CLI::App& app, ServeOptions& options);

/// Serves until SIGINT or SIGTERM, and then ends what has begun. Returns 0. Throws Error.
int serve(const ServeOptions& options);

}  // namespace fastkv::cli
