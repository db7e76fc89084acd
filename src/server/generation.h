// One prompt and the answer that grows from it, a step at a time.
#pragma once

#include <memory>

#include "fastkv/fastkv.h"
#include "server/reading.h"
#include "server/stop_strings.h"
#include "server/task.h"
#include "text/utf8.h"

namespace fastkv::server {

class Generation {
  public:
    /// The answer to the task's prompt `index`. `task` and `store` must outlive it.
    Generation(const Model& model, Task& task, int index, SessionStore& store);

    /// Reads the prompt, what the stored session does not spare of it, and samples the first token; `progress` as for
    /// Session::prefill(). Throws as that does.
    void read(Stored stored, const ProgressCallback& progress);

    /// What the session is to decode for the answer to grow; sample() takes the next token then. Not after done().
    Session& session() { return *session_; }
    Token newest() const { return newest_; }
    void sample();

    bool done() const { return done_; }
    int n_predicted() const { return int(n_predicted_); }

    /// What it took so far.
    Outcome outcome() const;

    /// Stores the session for those who go on from it; returns its number, 0 where it is not to be stored. The last
    /// call, after done().
    uint64_t store_session();

  private:
    void report_layers();
    void echo_prompt();
    Reading score_prompt(const ProgressCallback& progress);
    void score_rows(int first, std::span<const float> logits);
    void say(const std::string& text);
    void finish(const char* reason);
    SessionParams session_params();

    const Model& model_;
    Task& task_;
    const std::vector<Token>& prompt_;
    int index_;
    SessionStore& store_;
    std::unique_ptr<Session> session_;  // nullptr before read()
    int n_cached_ = 0;                  // tokens that a stored session has spared
    Kept kept_;
    double read_seconds_ = 0;
    Sampler sampler_;
    text::Utf8Stream utf8_;
    StopStrings stop_;
    std::vector<TokenLogprob> prompt_logprobs_;  // [n_prompt] where the task scores them
    std::vector<TokenLogprob> unsaid_;           // of tokens whose text has not been told yet
    size_t n_text_ = 0;                          // bytes of text sampled, prompt included where it is echoed
    size_t n_said_ = 0;                          // bytes of it that were told
    Token newest_ = 0;
    int n_predicted_ = 0;
    bool done_ = false;
    const char* reason_ = "stop";
    Clock::time_point first_token_, last_token_;
};

}  // namespace fastkv::server
