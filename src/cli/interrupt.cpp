#include "cli/interrupt.h"

#include <fcntl.h>
#include <unistd.h>

#include <csignal>

namespace fastkv::cli {

namespace {

volatile std::sig_atomic_t signal_came = 0;  // its number

}  // namespace

void catch_interrupts() {
    signal_came = 0;
    struct sigaction action {};
    action.sa_handler = [](int number) { signal_came = number; };
    action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
}

void release_interrupts() {
    std::signal(SIGINT, SIG_DFL);
    std::signal(SIGTERM, SIG_DFL);
}

bool interrupted() { return signal_came != 0; }
bool asked_to_end() { return signal_came == SIGTERM; }

void guard_standard_streams() {
    std::signal(SIGPIPE, SIG_IGN);
    for (int fd = 0; fd <= 2; ++fd) {
        // open() takes the lowest free number, which is the one that was found closed.
        if (fcntl(fd, F_GETFD) == -1 && open("/dev/null", O_RDWR) != fd) _exit(1);
    }
}

}  // namespace fastkv::cli
