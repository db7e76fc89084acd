// How a prompt becomes a session: from a stored one as far as there is one, the rest is read.
#pragma once

#include <memory>

#include "fastkv/fastkv.h"
#include "server/session_store.h"
#include "server/task.h"

namespace fastkv::server {

struct Reading {
    std::unique_ptr<Session> session;  ///< has read the whole prompt
    int n_cached = 0;                  ///< tokens that a stored session has spared
    double seconds = 0;
};

/// The task's prompt `index`. Where the task names a document, that is read by itself, so that the session can be gone
/// on from with any question. `progress` as for Session::prefill(), which it throws like.
Reading read_prompt(const Model& model, const TaskParams& task, int index, const SessionParams& params,
                    SessionStore& store, const ProgressCallback& progress);

}  // namespace fastkv::server
