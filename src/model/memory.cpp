// Linux tells through /proc and control groups; other systems are trusted to refuse an allocation themselves.
#include "model/memory.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <sys/resource.h>
#include <unistd.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <mutex>
#include <optional>
#include <sstream>
#include <utility>

#include "fastkv/error.h"

namespace fastkv {

namespace {

constexpr uint64_t unlimited = std::numeric_limits<uint64_t>::max();

/// The number after `label` at the start of a line of `path`.
std::optional<uint64_t> labelled_number(const std::string& path, const std::string& label) {
    std::ifstream file(path);
    std::string line;
    while (std::getline(file, line)) {
        if (line.compare(0, label.size(), label) != 0) continue;
        std::istringstream rest(line.substr(label.size()));
        uint64_t value = 0;
        if (rest >> value) return value;
    }
    return std::nullopt;
}

/// The number that is the whole of `path`; nullopt for "max".
std::optional<uint64_t> lone_number(const std::string& path) { return labelled_number(path, ""); }

uint64_t left(uint64_t limit, uint64_t used) { return limit > used ? limit - used : 0; }

/// What one control group leaves. Its page cache counts as used but is given back under pressure.
uint64_t group_memory(const std::string& dir, const char* limit_file, const char* usage_file, const char* prefix) {
    const auto limit = lone_number(dir + "/" + limit_file);
    const auto usage = lone_number(dir + "/" + usage_file);
    // Version 1 writes "no limit" as the largest multiple of a page.
    if (!limit || !usage || *limit >= (uint64_t{1} << 62)) return unlimited;
    const std::string stat = dir + "/memory.stat", p = prefix;
    const uint64_t cache =
        labelled_number(stat, p + "inactive_file ").value_or(0) + labelled_number(stat, p + "active_file ").value_or(0);
    return left(*limit, left(*usage, cache));
}

/// The tightest limit of the process's control group and the groups around it.
uint64_t control_group_memory() {
    std::ifstream file("/proc/self/cgroup");
    uint64_t result = unlimited;
    for (std::string line; std::getline(file, line);) {
        const size_t first = line.find(':');
        const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
        if (second == std::string::npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1);
        const bool v2 = controllers.empty();
        if (!v2 && controllers != "memory") continue;
        const std::string root = v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
        for (std::string path = line.substr(second + 1);; path.erase(path.rfind('/'))) {
            if (path == "/") path.clear();
            const std::string dir = root + path;
            result =
                std::min(result, v2 ? group_memory(dir, "memory.max", "memory.current", "")
                                    : group_memory(dir, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"));
            if (path.find('/') == std::string::npos) break;
        }
    }
    return result;
}

uint64_t address_space() {
    rlimit limit{};
    if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return unlimited;
    const auto pages = lone_number("/proc/self/statm");
    const long page = sysconf(_SC_PAGESIZE);
    return left(limit.rlim_cur, pages.value_or(0) * static_cast<uint64_t>(std::max(page, 1L)));
}

}  // namespace

uint64_t available_memory() {
    const auto kib = labelled_number("/proc/meminfo", "MemAvailable:");
    const uint64_t machine = kib ? *kib * 1024 : unlimited;
    return std::min({machine, control_group_memory(), address_space()});
}

uint64_t peak_rss_bytes() {
    // VmHWM rather than getrusage: ru_maxrss also counts the program that started this one.
    if (const auto kib = labelled_number("/proc/self/status", "VmHWM:")) return *kib * 1024;
    rusage usage{};
    if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
#ifdef __APPLE__
    return static_cast<uint64_t>(usage.ru_maxrss);
#else
    return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
#endif
}

namespace {

constexpr size_t huge_page = size_t{2} << 20;

// Memory that pieces are cut from, from its beginning to its end.
class Block {
  public:
    explicit Block(size_t bytes) : size_(bytes), base_(std::aligned_alloc(huge_page, bytes), &std::free) {
        if (base_) prefer_huge_pages(base_.get(), bytes);
    }

    /// nullptr where the rest is too small.
    std::byte* cut(size_t bytes) {
        if (!base_ || size_ - used_ < bytes) return nullptr;
        return static_cast<std::byte*>(base_.get()) + std::exchange(used_, used_ + bytes);
    }

  private:
    size_t size_, used_ = 0;
    std::unique_ptr<void, decltype(&std::free)> base_;
};

}  // namespace

namespace {

#if defined(__linux__)
// Tells the system about the whole pages of this size that lie inside the memory.
void advise(const void* data, size_t bytes, size_t page, int advice) {
    const auto begin = (reinterpret_cast<uintptr_t>(data) + page - 1) / page * page;
    const auto end = (reinterpret_cast<uintptr_t>(data) + bytes) / page * page;
    if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, advice);
}
constexpr int in_large_pages = MADV_HUGEPAGE, not_needed = MADV_DONTNEED;
#else
void advise(const void*, size_t, size_t, int) {}
constexpr int in_large_pages = 0, not_needed = 0;
#endif

}  // namespace

void prefer_huge_pages(void* data, size_t bytes) { advise(data, bytes, huge_page, in_large_pages); }

void give_back_pages(const void* data, size_t bytes) {
    advise(data, bytes, static_cast<size_t>(sysconf(_SC_PAGESIZE)), not_needed);
}

std::shared_ptr<std::byte> side_by_side(size_t bytes) {
    constexpr size_t block_bytes = size_t{64} << 20;  // taken page by page, as pieces are filled
    static std::mutex mutex;
    static std::weak_ptr<Block> last;
    const size_t rounded = (bytes + 63) / 64 * 64;
    const std::lock_guard lock(mutex);
    std::shared_ptr<Block> block = last.lock();
    std::byte* piece = block ? block->cut(rounded) : nullptr;
    if (!piece) {
        block = std::make_shared<Block>(std::max(block_bytes, (rounded + huge_page - 1) / huge_page * huge_page));
        piece = block->cut(rounded);
        last = block;
    }
    if (!piece) return nullptr;
    return {piece, [block, rounded](std::byte* data) { give_back_pages(data, rounded); }};
}

bool reset_peak_rss() {
#ifdef __GLIBC__
    malloc_trim(0);
#endif
    std::ofstream file("/proc/self/clear_refs");
    return (file << "5" << std::flush).good();  // proc(5): 5 resets VmHWM to VmRSS
}

std::string format_bytes(uint64_t bytes) {
    char text[64];
    const double value = static_cast<double>(bytes);
    if (value >= 0.1 * (1 << 30)) {
        std::snprintf(text, sizeof text, "%.1f GiB", value / (1 << 30));
    } else if (value >= 0.1 * (1 << 20)) {
        std::snprintf(text, sizeof text, "%.1f MiB", value / (1 << 20));
    } else {
        std::snprintf(text, sizeof text, "%llu bytes", static_cast<unsigned long long>(bytes));
    }
    return text;
}

void require_memory(uint64_t bytes, const std::string& what, const std::string& advice) {
    const uint64_t available = available_memory();
    if (bytes <= available) return;
    fail("not enough memory: " + what + " needs " + format_bytes(bytes) + ", " + format_bytes(available) +
         " is available (" + advice + ")");
}

}  // namespace fastkv
