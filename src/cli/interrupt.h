// Ctrl-C: the first asks for a clean stop, the second ends the process at once.
#pragma once

namespace fastkv::cli {

/// From now on SIGINT and SIGTERM set a flag (once; then they kill as usual). A flag that was set is taken down.
void catch_interrupts();

/// From now on they kill as usual.
void release_interrupts();

/// True once a signal has come.
bool interrupted();

/// True where it was SIGTERM: not the answer shall end but the program.
bool asked_to_end();

/// A reader that goes away is an error of a write, not a signal; and file descriptors 0 to 2 are open whatever the
/// caller closed, so that no file that is opened later takes their place.
void guard_standard_streams();

}  // namespace fastkv::cli
