#include "server/answer_stream.h"

#include <optional>
#include <utility>

namespace fastkv::server {

namespace {

constexpr auto look_around = std::chrono::milliseconds(100);  // how often to see whether the client is still there
constexpr auto silence = std::chrono::seconds(10);            // after which a stream says that it lives

ApiError out_of_time() { return {.status = 503, .message = "the time for this request is over (--timeout)"}; }

/// The next event, or nothing by `until`. A client that is gone and a time that is over are errors, which nobody or
/// somebody reads.
std::optional<Event> next_event(const Awaited& awaited, Clock::time_point until = Clock::time_point::max()) {
    while (Clock::now() < until) {
        const bool late = Clock::now() >= awaited.deadline;
        if (late || awaited.client_gone()) {
            awaited.task->cancel();
            return late ? out_of_time() : ApiError{.status = 499, .message = "the client has gone"};
        }
        if (auto event = awaited.task->wait(look_around)) return event;
    }
    return {};
}

class AnswerStream : public HttpStream {
  public:
    explicit AnswerStream(Awaited awaited) : awaited_(std::move(awaited)) {}
    ~AnswerStream() override { awaited_.task->cancel(); }

    std::optional<std::string> next() override {
        if (std::exchange(begins_, false)) {
            if (std::string first = first_chunk(awaited_.shape); !first.empty()) return first;
        }
        if (ended_) return {};
        const std::optional<Event> event = next_event(awaited_, Clock::now() + silence);
        return event ? chunk(*event) : ": still here\n\n";
    }

  private:
    std::string chunk(const Event& event) {
        const ResponseShape& shape = awaited_.shape;
        if (const auto* piece = std::get_if<Piece>(&event)) return piece_chunk(shape, *piece);
        if (const auto* error = std::get_if<ApiError>(&event)) {
            ended_ = true;
            return "data: " + error_json(*error) + "\n\n";
        }
        const auto& outcome = std::get<Outcome>(event);
        done_.push_back({.text = "", .logprobs = {}, .outcome = outcome});
        ended_ = done_.size() == awaited_.task->params.prompts.size();
        std::string text = outcome_chunk(shape, outcome);
        if (ended_) text += usage_chunk(shape, done_) + "data: [DONE]\n\n";
        return text;
    }

    Awaited awaited_;
    std::vector<Choice> done_;  // for their outcomes
    bool begins_ = true, ended_ = false;
};

}  // namespace

Result<std::string> whole_answer(const Awaited& awaited) {
    std::vector<Choice> choices;
    Choice growing;
    while (choices.size() < awaited.task->params.prompts.size()) {
        Event event = *next_event(awaited);
        if (const auto* error = std::get_if<ApiError>(&event)) return *error;
        if (auto* piece = std::get_if<Piece>(&event)) {
            growing.text += piece->text;
            if (piece->report) growing.report = piece->report;
            std::move(piece->logprobs.begin(), piece->logprobs.end(), std::back_inserter(growing.logprobs));
        } else {
            growing.outcome = std::get<Outcome>(event);
            choices.push_back(std::exchange(growing, {}));
        }
    }
    return response_json(awaited.shape, choices);
}

std::unique_ptr<HttpStream> answer_stream(Awaited awaited) {
    return std::make_unique<AnswerStream>(std::move(awaited));
}

}  // namespace fastkv::server
