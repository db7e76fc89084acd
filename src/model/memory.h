// How much memory there is, asked before it is taken.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace fastkv {

/// Bytes that this process can still take: what the system calls available, within the limits of its control
/// group and its address space. A huge number where the system does not say.
uint64_t available_memory();

/// The largest resident set of the process so far, in bytes; 0 where the system does not say.
uint64_t peak_rss_bytes();

/// Asks the system for large pages behind memory that is about to be filled: what is streamed through for every token
/// otherwise waits for address translation, most of all in a virtual machine. A hint: where it is refused nothing
/// changes.
void prefer_huge_pages(void* data, size_t bytes);

/// Gives the whole pages inside this memory back to the system: what is mapped from a file is read anew when it is
/// wanted again, other memory is lost. A hint, as above.
void give_back_pages(const void* data, size_t bytes);

/// `bytes` for data that is streamed through again and again, aligned to 64 bytes: pieces lie side by side in blocks of
/// large pages, of which a small piece alone would have none. Its pages go back to the system with the piece. nullptr
/// when there is no memory.
std::shared_ptr<std::byte> side_by_side(size_t bytes);

/// Gives freed memory back to the system and lets peak_rss_bytes() begin anew from what is left. False where the system
/// cannot (other than Linux, or /proc may not be written).
bool reset_peak_rss();

/// "1.5 GiB", "12.0 MiB", "300 bytes".
std::string format_bytes(uint64_t bytes);

/// Throws Error(failure) unless `bytes` are available: "not enough memory: WHAT needs 0.6 GiB, 0.2 GiB is
/// available". `advice` says what could be done instead.
void require_memory(uint64_t bytes, const std::string& what,
                    const std::string& advice = "use a smaller model or a shorter prompt");

}  // namespace fastkv
