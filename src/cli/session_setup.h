// A session as the flags ask for it.
#pragma once

#include "cli/options.h"
#include "cli/progress.h"
#include "fastkv/fastkv.h"

namespace fastkv::cli {

/// Tokens that prompt and answers may have together.
int context_size(const ModelOptions& options, const Model& model);

/// `n_predict` as -n gives it: -1 is no limit.
Session open_session(const ModelOptions& options, const MethodParams& method, int n_predict, const Model& model);

/// Throws Error(failure) where a prompt of `n_prompt` tokens is longer than the context; notes on stderr where it is
/// longer than what the model was trained on. `what` is what takes them: "the prompt has".
void check_length(const ModelOptions& options, const Model& model, size_t n_prompt,
                  const std::string& what = "the prompt has");

/// Draws on `bar` how far reading is, and stops it on Ctrl-C. `bar` must outlive its use.
ProgressCallback show_and_watch(ProgressBar& bar);

}  // namespace fastkv::cli
