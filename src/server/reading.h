// How a prompt becomes a session: from a stored one as far as there is one, the rest is read.
#pragma once

#include <memory>
#include <optional>

#include "fastkv/fastkv.h"
#include "server/session_store.h"
#include "server/task.h"

namespace fastkv::server {

/// What there is of a prompt before it is read.
struct Stored {
    Clock::time_point began;         ///< when it was looked for
    std::optional<Session> session;  ///< a copy that the prompt goes on from, or nothing
};

/// Looks for what a stored session spares of the task's prompt `index`. A long session takes its time to be copied, and
/// more to be read from a file: this is for a thread on which no answer waits. Throws where the copy finds no memory.
Stored find_stored(const TaskParams& task, int index, SessionStore& store);

/// Cache entries to set aside for an answer; the cache grows past them.
int reserve_of(const TaskParams& task);

struct Reading {
    std::unique_ptr<Session> session;  ///< has read the whole prompt
    int n_cached = 0;                  ///< tokens that a stored session has spared
    double seconds = 0;
};

/// The task's prompt `index`, or the rest of it after `stored`. Where the task names a document, that is read by
/// itself, so that the session can be gone on from with any question. `progress` as for Session::prefill(), which it
/// throws like.
Reading read_prompt(const Model& model, const TaskParams& task, int index, const SessionParams& params, Stored stored,
                    SessionStore& store, const ProgressCallback& progress);

}  // namespace fastkv::server
