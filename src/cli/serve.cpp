// Load the model, listen, serve until a signal comes.
#include "cli/serve.h"

#include <chrono>
#include <cstdio>
#include <thread>

#include "cli/answer.h"
#include "cli/interrupt.h"
#include "cli/method_choice.h"
#include "cli/number_list.h"
#include "cli/session_setup.h"
#include "server/keys.h"

namespace fastkv::cli {

namespace {

void add_number(CLI::App& app, const std::string& flag, const char* type, const std::string& help, int& target,
                const char* kind, int least, int most) {
    app.add_option_function<std::string>(
           flag,
           [&target, flag, kind, least, most](const std::string& text) {
               target = whole_number(flag, text, kind, least, most);
           },
           help)
        ->type_name(type);
}

void add_store_options(CLI::App& app, server::StoreParams& store) {
    const auto add_size = [&](const char* flag, const char* help, uint64_t& target) {
        const auto refuse_negative = [](const std::string& text) {
            return std::string(text.starts_with('-') ? text + " is below 0" : "");
        };
        app.add_option(flag, target, help)
            ->transform(CLI::AsSizeValue(/*kb_is_1000=*/false))
            ->transform(CLI::Validator(refuse_negative, ""))  // goes before the other, which takes -5 for a large size
            ->type_name("SIZE");
    };
    add_size("--cache-mem",
             "memory for sessions that wait to be gone on from, as 512M or 2G (default 1G; 0: none wait)",
             store.memory_bytes);
    app.add_option("--session-dir", store.folder,
                   "a folder for sessions in files: those past --cache-mem, and those that clients save")
        ->type_name("DIR");
    add_size("--session-disk", "how much of it those past --cache-mem may take (default 16G)", store.disk_bytes);
}

constexpr const char* examples = R"(
A request may name its own method: "fastkv": {"method": "snapkv", "retain_rate": 0.2}.

Examples:
  fastkv serve -m model.gguf
  curl http://127.0.0.1:8080/v1/chat/completions -d '{"messages": [{"role": "user", "content": "Hello"}]}')";

}  // namespace

void add_serve_command(CLI::App& app, ServeOptions& options) {
    CLI::App* command = app.add_subcommand("serve", "Answer over HTTP, as OpenAI's API does.");
    command->footer(examples);
    server::ServerParams& server = options.server;

    command->option_defaults()->group("Server");
    command->add_option("--host", server.host, "address or name to listen on (default 127.0.0.1: this machine only)")
        ->type_name("HOST");
    add_number(*command, "--port", "N", "port (default 8080; 0: a free one)", server.port, "a port", 0, 65535);
    command->add_option("--alias", server.alias, "the model's name in answers (default: its path)")->type_name("NAME");
    command->add_option("--api-key", server.api_keys, "a key that clients must have; may be given several times")
        ->type_name("KEY")
        ->allow_extra_args(false);
    command->add_option("--api-key-file", options.api_key_file, "more keys, one a line")->type_name("FILE");
    add_number(*command, "--parallel", "N", "requests at work at a time; the others wait (default 4)",
               server.worker.n_parallel, "a number of requests", 1, 256);
    add_number(*command, "--queue", "N", "requests that may wait; further ones are refused (default 64)",
               server.worker.n_queue, "a number of requests", 0, 100000);
    add_number(*command, "--timeout", "S", "seconds for a request, waiting included (default 600; 0: no limit)",
               server.timeout_seconds, "a number of seconds", 0, 1000000);
    add_store_options(*command, server.store);
    command
        ->add_option_function<std::string>(
            "-n,--predict,--n-predict", [&](const std::string& text) { options.n_predict = parse_n_predict(text); },
            "tokens of an answer where a request does not say (default -1: until it ends or the context is full)")
        ->type_name("N");

    options.model.params.expand = Expand::automatic;  // it reads many prompts
    add_model_options(*command, options.model);
    add_method_options(*command, options.method);
    add_sampling_options(*command, options.sampler);
}

int serve(const ServeOptions& options) {
    server::ServerParams params = options.server;
    for (const std::string& key : params.api_keys) {
        if (key.empty()) refuse("--api-key: an empty key protects nothing");
    }
    if (!options.api_key_file.empty()) {
        for (std::string& key : server::read_keys(options.api_key_file)) params.api_keys.push_back(std::move(key));
    }
    const Model model = Model::load(options.model.path, options.model.params);
    (void)Sampler(model, options.sampler);  // refuses what is out of range
    params.defaults = {choose_method(options.method, model), options.sampler, options.n_predict};
    params.session.n_ctx = context_size(options.model, model);
    params.session.cache_type_k = options.model.cache_type_k;
    params.session.cache_type_v = options.model.cache_type_v;

    catch_interrupts();
    server::Server server(model, params);
    const bool is_ipv6 = params.host.find(':') != std::string::npos;
    std::fprintf(stderr, "fastkv: listening on http://%s:%d\n",
                 is_ipv6 ? ("[" + params.host + "]").c_str() : params.host.c_str(), server.port());
    const bool loopback = params.host.starts_with("127.") || params.host == "::1" || params.host == "localhost";
    if (!loopback && params.api_keys.empty()) {
        std::fputs("fastkv: warning: whoever reaches this address may ask: give --api-key or --api-key-file\n", stderr);
    }
    while (!interrupted()) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    std::fputs("fastkv: stopping when the answers under way have ended (a second signal stops at once)\n", stderr);
    server.finish();
    return 0;
}

}  // namespace fastkv::cli
