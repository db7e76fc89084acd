#include "cli/whole_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>

#include "fastkv/error.h"

namespace fastkv::cli {

namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail_to_write(const std::string& shown, int error) {
    fail(shown + ": cannot write: " + std::strerror(error));
}

struct CloseFile {
    void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

// A new file: never one that somebody else has put there.
File create(const std::string& path, const std::string& shown) {
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) fail_to_write(shown, errno);
    return File(fdopen(fd, "wb"));
}

void write_all(File file, const std::string& content, const std::string& shown) {
    errno = 0;
    const bool written = std::fwrite(content.data(), 1, content.size(), file.get()) == content.size();
    if (!written || std::fclose(file.release()) != 0) fail_to_write(shown, errno);
}

}  // namespace

WholeFile::WholeFile(const std::string& path, const std::string& flag)
    : shown_((flag.empty() ? "" : flag + " ") + path), path_(path) {
    std::error_code ignored;
    if (path.empty()) fail(flag + ": no file name");
    if (fs::is_directory(path, ignored)) fail(shown_ + " is a folder, not a file");
    if (fs::exists(path, ignored)) {
        if (access(path.c_str(), W_OK) != 0) fail_to_write(shown_, errno);
        if (!fs::is_regular_file(path, ignored)) return;
        path_ = fs::canonical(path).string();
    }
    temporary_ = path_ + "." + std::to_string(getpid()) + ".tmp";
    create(temporary_, shown_);
    fs::remove(temporary_);
}

void WholeFile::write(const std::string& content) const {
    if (temporary_.empty()) {
        File file(std::fopen(path_.c_str(), "wb"));
        if (!file) fail_to_write(shown_, errno);
        write_all(std::move(file), content, shown_);
        return;
    }
    try {
        write_all(create(temporary_, shown_), content, shown_);
        if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail_to_write(shown_, errno);
    } catch (...) {
        std::remove(temporary_.c_str());
        throw;
    }
}

}  // namespace fastkv::cli
