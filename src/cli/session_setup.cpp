#include "cli/session_setup.h"

#include <cstdio>

#include "cli/interrupt.h"
#include "cli/text.h"

namespace fastkv::cli {

namespace {

// Entries set aside in the cache where the answer has no limit of its own; it grows past them.
constexpr int open_ended_reserve = 512;

}  // namespace

int context_size(const ModelOptions& options, const Model& model) {
    return options.n_ctx > 0 ? options.n_ctx : model.hparams().n_ctx_train;
}

void check_length(const ModelOptions& options, const Model& model, size_t n_prompt, const std::string& what) {
    const int n_ctx = context_size(options, model);
    const int n_ctx_train = model.hparams().n_ctx_train;
    if (n_prompt > size_t(n_ctx)) {
        const char* way_out =
            n_ctx < n_ctx_train ? "raise -c" : "shorten it (-c goes past what the model was trained on)";
        fail(format("%s %zu tokens, the context holds %d: %s", what.c_str(), n_prompt, n_ctx, way_out));
    }
    if (n_ctx > n_ctx_train && n_prompt > size_t(n_ctx_train)) {
        std::fprintf(stderr, "fastkv: note: %s %zu tokens, the model was trained on %d\n", what.c_str(), n_prompt,
                     n_ctx_train);
    }
}

Session open_session(const ModelOptions& options, const MethodParams& method, int n_predict, const Model& model) {
    SessionParams params;
    params.n_predict = n_predict < 0 ? open_ended_reserve : n_predict;
    params.n_ctx = context_size(options, model);
    params.cache_type_k = options.cache_type_k;
    params.cache_type_v = options.cache_type_v;
    return Session(model, method, params);
}

ProgressCallback show_and_watch(ProgressBar& bar) {
    return [&bar](const PrefillProgress& progress) {
        bar.show(progress);
        return !interrupted();
    };
}

}  // namespace fastkv::cli
