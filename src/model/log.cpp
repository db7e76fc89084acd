// The libraries' log callbacks are global; captures are per thread, so models can be loaded side by side.
#include "model/log.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "ggml.h"
#include "llama.h"

namespace fastkv {

namespace {

std::atomic<bool> log_verbose{false};
thread_local LogCapture* active_capture = nullptr;

}  // namespace

struct LogSink {
    static void receive(ggml_log_level level, const char* text, void*) {
        if (level == GGML_LOG_LEVEL_ERROR && active_capture) active_capture->text_ += text;
        if (log_verbose) std::fputs(text, stderr);
    }
};

void install_logs() {
    static std::once_flag once;
    std::call_once(once, [] {
        const char* wanted = std::getenv("FASTKV_LOG");
        if (wanted && *wanted) log_verbose = true;
        ggml_log_set(LogSink::receive, nullptr);
        llama_log_set(LogSink::receive, nullptr);
    });
}

void set_log_level(bool verbose) {
    install_logs();
    log_verbose = verbose;
}

LogCapture::LogCapture() : outer_(active_capture) {
    install_logs();
    active_capture = this;
}

LogCapture::~LogCapture() { active_capture = outer_; }

std::string LogCapture::first_error() const {
    std::string line = text_.substr(0, text_.find('\n'));
    // "gguf_init_from_file_impl: failed to read magic": the function means nothing to the reader.
    const size_t colon = line.find(": ");
    if (colon != std::string::npos && line.find(' ') > colon) line.erase(0, colon + 2);
    for (char& c : line) {
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
    }
    return line;
}

}  // namespace fastkv
