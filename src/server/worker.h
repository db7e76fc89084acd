// The one thread that computes. It reads one prompt at a time, and between its chunks of rows lets the answers that are
// under way grow, all together, so that a long prompt holds up nobody for long. They grow as well while what is stored
// of a prompt is fetched, which another thread does.
#pragma once

#include <condition_variable>
#include <deque>
#include <future>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "fastkv/fastkv.h"
#include "server/generation.h"
#include "server/metrics.h"
#include "server/task.h"

namespace fastkv::server {

struct WorkerParams {
    int n_parallel = 4;  ///< requests at work
    int n_queue = 64;    ///< further ones that may wait
};

/// What a slot is doing.
struct SlotState {
    int id = 0;
    bool is_processing = false;
    int n_prompt_tokens = 0;
    int n_decoded = 0;
    uint64_t session = 0;  ///< the number of the stored session that its last answer has left, or 0
};

class Worker {
  public:
    /// `metrics` and `store` must outlive it.
    Worker(Model model, const WorkerParams& params, Metrics& metrics, SessionStore& store);
    /// Waits for the answers under way.
    ~Worker();

    enum class Admission { taken, full, ending };
    Admission submit(std::shared_ptr<Task> task);

    /// No request is taken any more, those that wait are refused, those at work go on to their end.
    void end();

    std::vector<SlotState> slots() const;
    /// Says which stored session is the slot's from now on; 0: none.
    void set_session(int slot, uint64_t session);
    int n_waiting() const;
    bool ending() const;

  private:
    struct Slot {
        std::shared_ptr<Task> task;  // nullptr: free
        int next_prompt = 0;
        std::future<Stored> stored;          // of the next prompt, from when its turn to be read has come
        std::unique_ptr<Generation> answer;  // nullptr while its prompt is to be read
        uint64_t order = 0;                  // of arrival
    };

    void run();
    bool await_work();
    Slot* next_to_read();
    bool ready_to_read(Slot& slot);
    void read(Slot& slot);
    void step_answers();
    void advance(Slot& slot);
    std::vector<Slot*> growing();
    void attempt(Slot& slot, const std::function<void()>& work);
    void release(Slot& slot);
    int index_of(const Slot& slot) const { return int(&slot - slots_.data()); }
    void show(const Slot& slot);

    const Model model_;
    const WorkerParams params_;
    Metrics& metrics_;
    SessionStore& store_;
    std::vector<Slot> slots_;  // [n_parallel] the worker's thread alone
    Batch batch_;              // of the answers under way
    uint64_t n_taken_ = 0;
    Clock::time_point stepped_;     // when the last round of steps ended
    Clock::duration step_time_{0};  // how long it took

    mutable std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<std::shared_ptr<Task>> queue_;
    std::vector<SlotState> states_;  // [n_parallel]
    int n_busy_ = 0;
    bool ending_ = false;

    std::thread thread_;  // the last: it uses the others
};

}  // namespace fastkv::server
