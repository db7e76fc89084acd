#include "server/metrics.h"

#include "text/format.h"

namespace fastkv::server {

std::string metrics_text(const Metrics& m, int processing, int deferred) {
    std::string out;
    const auto line = [&](const char* name, const char* type, const char* help, double value) {
        out += text::format("# HELP fastkv:%s %s\n# TYPE fastkv:%s %s\nfastkv:%s %.15g\n", name, help, name, type, name,
                            value);
    };
    line("prompt_tokens_total", "counter", "Prompt tokens read.", double(m.prompt_tokens));
    line("prompt_seconds_total", "counter", "Seconds spent reading prompts.", m.prompt_seconds);
    line("tokens_predicted_total", "counter", "Tokens sampled.", double(m.predicted_tokens));
    line("tokens_predicted_seconds_total", "counter", "Seconds between first and last tokens.", m.predicted_seconds);
    line("requests_answered_total", "counter", "Requests answered to the end.", double(m.answered));
    line("requests_cancelled_total", "counter", "Requests whose client left, or whose time was over.",
         double(m.cancelled));
    line("requests_failed_total", "counter", "Requests that failed while they were worked on.", double(m.failed));
    line("requests_processing", "gauge", "Requests at work.", processing);
    line("requests_deferred", "gauge", "Requests waiting.", deferred);
    return out;
}

}  // namespace fastkv::server
