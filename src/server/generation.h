// One prompt and the answer that grows from it, a step at a time.
#pragma once

#include <memory>

#include "fastkv/fastkv.h"
#include "server/stop_strings.h"
#include "server/task.h"
#include "text/utf8.h"

namespace fastkv::server {

class Generation {
  public:
    /// The answer to the task's prompt `index`. `task` must outlive it.
    Generation(const Model& model, Task& task, int index);

    /// Reads the prompt and samples the first token; `progress` as for Session::prefill(). Throws as that does.
    void read(const ProgressCallback& progress);

    /// What the session is to decode for the answer to grow; sample() takes the next token then. Not after done().
    Session& session() { return *session_; }
    Token newest() const { return newest_; }
    void sample();

    bool done() const { return done_; }
    int n_predicted() const { return int(n_predicted_); }

    /// What it took so far.
    Outcome outcome() const;

  private:
    void report_layers();
    void echo_prompt();
    void score_prompt(int first, std::span<const float> logits);
    void say(const std::string& text);
    void finish(const char* reason);
    SessionParams session_params();

    const Model& model_;
    Task& task_;
    const std::vector<Token>& prompt_;
    int index_;
    bool scores_prompt_;  // echo with logprobs: the exact model's, whatever the method
    std::unique_ptr<Session> session_;
    Sampler sampler_;
    text::Utf8Stream utf8_;
    StopStrings stop_;
    std::vector<TokenLogprob> prompt_logprobs_;  // [n_prompt] with scores_prompt_
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
