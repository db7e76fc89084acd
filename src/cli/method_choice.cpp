#include "cli/method_choice.h"

#include <cstdio>
#include <filesystem>
#include <optional>

#include "cli/input_text.h"
#include "tune/tuned.h"

namespace fastkv::cli {

namespace {

bool gives_any(const MethodParams& params) {
    MethodParams none;
    none.method = params.method;
    return method_text(params) != method_text(none);
}

// Throws Error where there is a file that says nothing useful.
std::optional<MethodParams> tuned_method(const Model& model) {
    const std::string path = tune::tuned_path(model.hash());
    std::error_code ignored;
    if (path.empty() || !std::filesystem::exists(path, ignored)) return {};
    const MethodParams method = tune::tuned_of(read_file(path), path).method;
    try {
        resolve(method, model.hparams());
    } catch (const Error& error) {
        fail(path + ": " + error.what());
    }
    return method;
}

}  // namespace

MethodParams choose_method(const MethodOptions& options, const Model& model) {
    if (options.no_tuned || gives_any(options.params)) return options.params;
    try {
        const auto tuned = tuned_method(model);
        if (!tuned || tuned->method != options.params.method) return options.params;
        std::fprintf(stderr, "fastkv: note: tuned for this model: %s (--no-tuned: the defaults)\n",
                     method_text(*tuned).c_str());
        return *tuned;
    } catch (const Error& error) {
        std::fprintf(stderr, "fastkv: warning: %s; ignored, fastkv tune writes it anew\n", error.what());
        return options.params;
    }
}

}  // namespace fastkv::cli
