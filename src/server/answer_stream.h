// How a connection gets to its answer: as a whole, or event by event.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "server/http.h"
#include "server/response.h"
#include "server/task.h"

namespace fastkv::server {

/// What a connection waits for, and how long.
struct Awaited {
    std::shared_ptr<Task> task;
    ResponseShape shape;
    std::function<bool()> client_gone;
    Clock::time_point deadline;
};

/// Waits for all of it, as JSON. Where the client goes away or the time is over the task is cancelled.
Result<std::string> whole_answer(const Awaited& awaited);

/// Server-sent events: chunks as they come, comments while none does, at the end "data: [DONE]".
std::unique_ptr<HttpStream> answer_stream(Awaited awaited);

}  // namespace fastkv::server
