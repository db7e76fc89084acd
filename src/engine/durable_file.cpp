#include "engine/durable_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "fastkv/error.h"

namespace fastkv {

namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail_with(const std::string& path, const char* what) {
    fail(path + ": cannot " + what + ": " + std::strerror(errno));
}

class FileDescriptor {
  public:
    explicit FileDescriptor(int fd) : fd_(fd) {}
    ~FileDescriptor() {
        if (fd_ >= 0) close(fd_);
    }
    FileDescriptor(const FileDescriptor&) = delete;
    FileDescriptor& operator=(const FileDescriptor&) = delete;
    int get() const { return fd_; }
    bool close_now() { return close(std::exchange(fd_, -1)) == 0; }

  private:
    int fd_;
};

bool write_all(int fd, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t n = write(fd, bytes.data(), bytes.size());
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        bytes = bytes.subspan(size_t(n));
    }
    return true;
}

void write_file(const std::string& temporary, const std::string& shown, std::span<const std::byte> bytes) {
    FileDescriptor file(open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (file.get() < 0) fail_with(shown, "write");
    if (!write_all(file.get(), bytes) || fsync(file.get()) != 0 || !file.close_now()) fail_with(shown, "write");
}

void sync_folder(const std::string& folder, const std::string& shown) {
    const FileDescriptor descriptor(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (descriptor.get() < 0 || fsync(descriptor.get()) != 0) fail_with(shown, "write");
}

}  // namespace

void write_durably(const std::string& path, std::span<const std::byte> bytes) {
    static std::atomic<unsigned> n_written = 0;
    const fs::path whole(path);
    const std::string folder = whole.has_parent_path() ? whole.parent_path().string() : ".";
    const std::string temporary = folder + "/." + whole.filename().string() + "." + std::to_string(getpid()) + "-" +
                                  std::to_string(n_written++) + ".part";
    try {
        write_file(temporary, path, bytes);
        if (std::rename(temporary.c_str(), path.c_str()) != 0) fail_with(path, "write");
    } catch (...) {
        unlink(temporary.c_str());
        throw;
    }
    sync_folder(folder, path);
}

std::vector<std::byte> read_bytes(const std::string& path, uint64_t limit) {
    const FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat status {};
    if (file.get() < 0 || fstat(file.get(), &status) != 0) fail_with(path, "read");
    if (!S_ISREG(status.st_mode)) fail(path + ": is no file");
    std::vector<std::byte> bytes(size_t(std::min(uint64_t(status.st_size), limit)));
    for (size_t done = 0; done < bytes.size();) {
        const ssize_t n = read(file.get(), bytes.data() + done, bytes.size() - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail_with(path, "read");
        if (n == 0) bytes.resize(done);  // somebody cuts it short meanwhile
        done += size_t(n);
    }
    return bytes;
}

}  // namespace fastkv
