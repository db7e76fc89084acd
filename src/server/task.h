// One request on its way: the connection's thread hands it to the worker and awaits what comes of it.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "fastkv/fastkv.h"
#include "server/api_error.h"
#include "server/layer_report.h"
#include "server/logprobs.h"

namespace fastkv::server {

using Clock = std::chrono::steady_clock;

/// More of an answer. `index` counts the request's prompts.
struct Piece {
    int index = 0;
    std::string text;  ///< valid UTF-8
    std::vector<TokenLogprob> logprobs = {};
    std::shared_ptr<const PromptReport> report = {};  ///< once, when the prompt has been read, where it was asked for
};

/// Tokens of a prompt that the layers keep, each of them per cached head.
struct Kept {
    int min = 0, max = 0;
    double mean = 0;
};

/// The end of one prompt's answer, and what it took.
struct Outcome {
    int index = 0;
    const char* finish_reason = "stop";  ///< or "length"
    int n_prompt = 0;                    ///< tokens of the prompt
    int n_cached = 0;                    ///< of them, those of a stored session, which were not read again
    int n_predicted = 0;                 ///< tokens sampled, the one that ended the answer included
    double prompt_seconds = 0;
    double predicted_seconds = 0;
    double first_token_seconds = 0;  ///< since the request came in
    uint64_t kv_cache_bytes = 0;
    Kept kept;
    MethodParams method;  ///< resolved
};

/// What the worker has to say, in this order: pieces of a prompt's answer, its outcome, those of the next prompt; or an
/// error, which is the last.
using Event = std::variant<Piece, Outcome, ApiError>;

struct TaskParams {
    std::vector<std::vector<Token>> prompts;
    MethodParams method;
    SessionParams session;
    SamplerParams sampler;
    int max_tokens = -1;
    std::vector<std::string> stop;
    std::optional<int> n_logprobs;
    bool echo = false;
    bool report_layers = false;
    bool reuse = true;        ///< whether to go on from stored sessions, and to be stored
    std::string document_id;  ///< whose sessions alone are gone on from, or ""
    int n_document = 0;       ///< tokens of the document that the prompt begins with

    /// echo with logprobs: the exact model's, whatever the method
    bool scores_prompt() const { return echo && n_logprobs; }
};

class Task {
  public:
    explicit Task(TaskParams p) : params(std::move(p)) {}

    const TaskParams params;
    const Clock::time_point came = Clock::now();

    // the worker's side
    void tell(Event event);
    bool cancelled() const { return cancelled_; }

    // the connection's side
    /// The next event, or nothing after `patience`.
    std::optional<Event> wait(std::chrono::milliseconds patience);
    /// Nobody waits any more.
    void cancel() { cancelled_ = true; }

  private:
    std::mutex mutex_;
    std::condition_variable told_;
    std::deque<Event> events_;
    std::atomic<bool> cancelled_ = false;
};

}  // namespace fastkv::server
