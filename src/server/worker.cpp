#include "server/worker.h"

#include <algorithm>
#include <new>
#include <utility>

namespace fastkv::server {

Worker::Worker(Model model, const WorkerParams& params, Metrics& metrics, SessionStore& store)
    : model_(std::move(model)),
      params_(params),
      metrics_(metrics),
      store_(store),
      slots_(size_t(params.n_parallel)),
      batch_(model_),
      states_(size_t(params.n_parallel)) {
    for (size_t i = 0; i < states_.size(); ++i) states_[i].id = int(i);
    thread_ = std::thread([this] { run(); });
}

Worker::~Worker() {
    end();
    thread_.join();
}

Worker::Admission Worker::submit(std::shared_ptr<Task> task) {
    {
        const std::lock_guard lock(mutex_);
        if (ending_) return Admission::ending;
        metrics_.cancelled += int64_t(std::erase_if(queue_, [](const auto& waiting) { return waiting->cancelled(); }));
        // a free slot takes a request at once, or soon
        const int room = params_.n_queue + params_.n_parallel - n_busy_;
        if (int(queue_.size()) >= room) return Admission::full;
        queue_.push_back(std::move(task));
    }
    wake_.notify_one();
    return Admission::taken;
}

void Worker::end() {
    {
        const std::lock_guard lock(mutex_);
        ending_ = true;
        for (const auto& task : queue_) task->tell(stopping());
        queue_.clear();
    }
    wake_.notify_one();
}

std::vector<SlotState> Worker::slots() const {
    const std::lock_guard lock(mutex_);
    return states_;
}

void Worker::set_session(int slot, uint64_t session) {
    const std::lock_guard lock(mutex_);
    states_[size_t(slot)].session = session;
}

int Worker::n_waiting() const {
    const std::lock_guard lock(mutex_);
    return int(std::count_if(queue_.begin(), queue_.end(), [](const auto& task) { return !task->cancelled(); }));
}

bool Worker::ending() const {
    const std::lock_guard lock(mutex_);
    return ending_;
}

void Worker::run() {
    while (await_work()) {
        if (Slot* slot = next_to_read(); slot && ready_to_read(*slot)) {
            read(*slot);
        } else {
            step_answers();
        }
    }
}

/// Gives waiting requests free slots. False where the end has come and nothing is under way.
bool Worker::await_work() {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [&] { return ending_ || n_busy_ > 0 || !queue_.empty(); });
    for (size_t i = 0; i < slots_.size() && !queue_.empty(); ++i) {
        if (slots_[i].task) continue;
        const int n_prompt = int(queue_.front()->params.prompts.front().size());
        states_[i] = {.id = int(i), .is_processing = true, .n_prompt_tokens = n_prompt, .session = states_[i].session};
        slots_[i] = {.task = std::move(queue_.front()), .answer = nullptr, .order = n_taken_++};
        queue_.pop_front();
        ++n_busy_;
    }
    return n_busy_ > 0;
}

/// Of the slots whose prompts are to be read, the one that came first.
Worker::Slot* Worker::next_to_read() {
    Slot* next = nullptr;
    for (Slot& slot : slots_) {
        if (slot.task && !slot.answer && (!next || slot.order < next->order)) next = &slot;
    }
    return next;
}

/// Whether it is known what a stored session spares of the slot's prompt. Nothing is fetched before the turn to be read
/// has come: until then a better session may be stored, and a copy that waits would only take memory.
bool Worker::ready_to_read(Slot& slot) {
    attempt(slot, [&] {
        if (slot.stored.valid()) return;
        slot.stored = std::async(std::launch::async, [this, task = slot.task, index = slot.next_prompt] {
            return find_stored(task->params, index, store_);
        });
    });
    if (!slot.stored.valid()) return false;  // there was no thread for it, which the client knows by now
    const bool others_wait = std::ranges::any_of(slots_, [](const Slot& other) { return other.answer != nullptr; });
    if (!others_wait) slot.stored.wait();
    return slot.stored.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

/// Between chunks of rows the other answers grow, for as long as the chunks took: half of the time is theirs.
void Worker::read(Slot& slot) {
    attempt(slot, [&] {
        Stored stored = slot.stored.get();
        auto answer = std::make_unique<Generation>(model_, *slot.task, slot.next_prompt++, store_);
        answer->read(std::move(stored), [&](const PrefillProgress&) {
            if (Clock::now() - stepped_ >= step_time_) step_answers();
            return !slot.task->cancelled();
        });
        slot.answer = std::move(answer);
    });
    if (slot.answer) advance(slot);
}

/// The slots with answers that somebody waits for.
std::vector<Worker::Slot*> Worker::growing() {
    std::vector<Slot*> growing;
    for (Slot& slot : slots_) {
        if (!slot.answer) continue;
        attempt(slot, [&] {
            if (slot.task->cancelled()) throw Error(ErrorKind::cancelled, "nobody waits for the answer");
            growing.push_back(&slot);
        });
    }
    return growing;
}

/// Every answer grows by a token: one pass over the weights for all.
void Worker::step_answers() {
    const Clock::time_point start = Clock::now();
    const std::vector<Slot*> slots = growing();
    std::vector<Session*> sessions;
    std::vector<Token> tokens;
    for (Slot* slot : slots) {
        sessions.push_back(&slot->answer->session());
        tokens.push_back(slot->answer->newest());
    }
    const std::vector<std::exception_ptr> errors = batch_.decode(sessions, tokens);
    for (size_t i = 0; i < slots.size(); ++i) {
        attempt(*slots[i], [&] {
            if (errors[i]) std::rethrow_exception(errors[i]);
            slots[i]->answer->sample();
        });
        if (slots[i]->answer) advance(*slots[i]);
    }
    stepped_ = Clock::now();
    step_time_ = stepped_ - start;
}

/// What follows when a slot's answer has grown: the next prompt, or the end of the request.
void Worker::advance(Slot& slot) {
    show(slot);
    if (!slot.answer->done()) return;
    const Outcome outcome = slot.answer->outcome();
    set_session(index_of(slot), slot.answer->store_session());
    slot.answer.reset();
    metrics_.prompt_tokens += outcome.n_prompt - outcome.n_cached;
    metrics_.cached_tokens += outcome.n_cached;
    metrics_.predicted_tokens += outcome.n_predicted;
    metrics_.prompt_seconds += outcome.prompt_seconds;
    metrics_.predicted_seconds += outcome.predicted_seconds;
    const bool last = slot.next_prompt == int(slot.task->params.prompts.size());
    if (last) ++metrics_.answered;
    slot.task->tell(outcome);
    if (last) release(slot);
}

/// Does the work for a slot; where that fails the client is told and the slot is free.
void Worker::attempt(Slot& slot, const std::function<void()>& work) {
    try {
        return work();
    } catch (const Error& error) {
        const bool left = error.kind() == ErrorKind::cancelled;
        ++(left ? metrics_.cancelled : metrics_.failed);
        slot.task->tell(ApiError{.status = error.kind() == ErrorKind::usage ? 400 : 503, .message = error.what()});
    } catch (const std::bad_alloc&) {
        ++metrics_.failed;
        slot.task->tell(ApiError{.status = 503, .message = "not enough memory"});
    } catch (const std::exception& error) {
        ++metrics_.failed;
        slot.task->tell(ApiError{.status = 500, .message = error.what()});
    }
    release(slot);
}

void Worker::release(Slot& slot) {
    slot = {};
    const std::lock_guard lock(mutex_);
    --n_busy_;
    SlotState& state = states_[size_t(index_of(slot))];
    state = {.id = state.id, .session = state.session};
}

void Worker::show(const Slot& slot) {
    const std::lock_guard lock(mutex_);
    SlotState& state = states_[size_t(index_of(slot))];
    state.n_prompt_tokens = int(slot.task->params.prompts[size_t(slot.next_prompt - 1)].size());
    state.n_decoded = slot.answer->n_predicted();
}

}  // namespace fastkv::server
