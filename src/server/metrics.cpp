#include "server/metrics.h"

#include "text/format.h"

namespace fastkv::server {

std::string metrics_text(const Metrics& m, const MetricsNow& now) {
    std::string out;
    const auto line = [&](const char* name, const char* type, const char* help, double value) {
        out += text::format("# HELP fastkv:%s %s\n# TYPE fastkv:%s %s\nfastkv:%s %.15g\n", name, help, name, type, name,
                            value);
    };
    line("prompt_tokens_total", "counter", "Prompt tokens read.", double(m.prompt_tokens));
    line("prompt_tokens_cached_total", "counter", "Prompt tokens that stored sessions spared.",
         double(m.cached_tokens));
    line("prompt_seconds_total", "counter", "Seconds spent reading prompts.", m.prompt_seconds);
    line("tokens_predicted_total", "counter", "Tokens sampled.", double(m.predicted_tokens));
    line("tokens_predicted_seconds_total", "counter", "Seconds between first and last tokens.", m.predicted_seconds);
    line("requests_answered_total", "counter", "Requests answered to the end.", double(m.answered));
    line("requests_cancelled_total", "counter", "Requests whose client left, or whose time was over.",
         double(m.cancelled));
    line("requests_failed_total", "counter", "Requests that failed while they were worked on.", double(m.failed));
    line("requests_processing", "gauge", "Requests at work.", now.processing);
    line("requests_deferred", "gauge", "Requests waiting.", now.deferred);
    line("sessions", "gauge", "Stored sessions, in memory and in files.", now.sessions);
    line("sessions_memory_bytes", "gauge", "Bytes of the stored sessions in memory.", double(now.session_bytes));
    return out;
}

}  // namespace fastkv::server
