#include "server/task.h"

namespace fastkv::server {

void Task::tell(Event event) {
    {
        const std::lock_guard lock(mutex_);
        events_.push_back(std::move(event));
    }
    told_.notify_one();
}

std::optional<Event> Task::wait(std::chrono::milliseconds patience) {
    std::unique_lock lock(mutex_);
    if (!told_.wait_for(lock, patience, [&] { return !events_.empty(); })) return {};
    Event event = std::move(events_.front());
    events_.pop_front();
    return event;
}

}  // namespace fastkv::server
