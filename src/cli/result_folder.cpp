#include "cli/result_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "cli/input_text.h"
#include "cli/whole_file.h"
#include "fastkv/error.h"
#include "text/json.h"

namespace fastkv::cli {

namespace {

namespace fs = std::filesystem;
using eval::Json;

constexpr int format_version = 1;
const std::string samples_name = "samples.jsonl", summary_name = "summary.json";

// Throws where they differ: the first key that does, and both values.
void compare_settings(const Json& there, const Json& here, const std::string& path) {
    const auto text = [](const Json& settings, const std::string& key) {
        return settings.contains(key) ? settings.at(key).dump() : std::string("not there");
    };
    Json all = there;
    all.update(here);
    for (const auto& [key, value] : all.items()) {
        if (text(there, key) == text(here, key)) continue;
        refuse(path + " holds results with other settings: " + key + " is " + text(there, key) + " there and " +
               text(here, key) + " here; name another folder with -o");
    }
}

int lock_folder(const std::string& path) {
    const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) fail(path + ": cannot open: " + std::strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
    const int error = errno;
    close(fd);
    if (error == EWOULDBLOCK) fail(path + ": another fastkv is at work in it");
    fail(path + ": cannot lock: " + std::strerror(error));
}

// Also where a run ended before its first summary: beside the samples, which have no line yet, nothing was there.
bool holds_nothing(const std::string& path) {
    const fs::directory_iterator entries(path);
    return std::all_of(begin(entries), end(entries), [](const fs::directory_entry& entry) {
        return entry.path().filename() == samples_name && entry.is_regular_file() && entry.file_size() == 0;
    });
}

// What was written while the last run was cut off: a line without its end.
std::string without_torn_line(std::string content) {
    if (!content.empty() && content.back() != '\n') content.resize(content.rfind('\n') + 1);
    return content;
}

}  // namespace

ResultFolder::ResultFolder(const std::string& path, const std::string& evaluation, const Json& settings,
                           bool retry_failed)
    : path_(path) {
    std::error_code error;
    if (fs::exists(path, error) && !fs::is_directory(path, error)) fail("-o " + path + " is a file, not a folder");
    fs::create_directories(path, error);
    if (error) fail("-o " + path + ": cannot make the folder: " + error.message());
    lock_ = lock_folder(path);
    try {
        read_summary(evaluation, settings);
        read_rows(retry_failed);
        const std::string samples = path_ + "/" + samples_name;
        samples_ = open(samples.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
        if (samples_ < 0) fail(samples + ": cannot write: " + std::strerror(errno));
    } catch (...) {
        close(lock_);
        throw;
    }
}

ResultFolder::~ResultFolder() {
    close(samples_);
    close(lock_);
}

void ResultFolder::read_summary(const std::string& evaluation, const Json& settings) {
    const std::string path = path_ + "/" + summary_name;
    if (!fs::exists(path)) {
        if (!holds_nothing(path_)) {
            refuse("-o " + path_ + " is not empty and holds no results of fastkv eval; name another folder");
        }
        summary_ = {{"format", format_version}, {"evaluation", evaluation}, {"settings", settings}};
        summary_["runs"] = Json::array();
        return;
    }
    summary_ = Json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
    if (!summary_.is_object() || !summary_.contains("settings") || !summary_.contains("runs") ||
        summary_.value("format", 0) != format_version) {
        fail(path + " is no summary that this version of fastkv eval can read");
    }
    summary_.erase("tables");
    const std::string there = summary_.value("evaluation", "");
    if (there != evaluation) {
        refuse(path_ + " holds results of fastkv eval " + there + "; name another folder with -o");
    }
    compare_settings(summary_.at("settings"), settings, path_);
}

void ResultFolder::read_rows(bool retry_failed) {
    const std::string path = path_ + "/" + samples_name;
    if (!fs::exists(path)) return;
    const std::string found = read_file(path);
    std::string content = without_torn_line(found);
    rows_ = eval::rows_of(content, path);
    if (retry_failed && std::any_of(rows_.begin(), rows_.end(), [](auto& row) { return row.failed(); })) {
        std::erase_if(rows_, [](auto& row) { return row.failed(); });
        content.clear();
        for (const eval::Row& row : rows_) content += eval::row_json(row) + "\n";
    }
    if (content != found) write_file(samples_name, content);
}

void ResultFolder::append(const eval::Row& row) {
    const std::string line = eval::row_json(row) + "\n";
    const bool written = write(samples_, line.data(), line.size()) == ssize_t(line.size());
    if (!written || fdatasync(samples_) != 0) {
        fail(path_ + "/" + samples_name + ": cannot write: " + std::strerror(errno));
    }
    rows_.push_back(row);
}

void ResultFolder::begin_run(const Json& run) { run_ = run; }

void ResultFolder::add(const eval::Row& row) {
    if (!run_.is_null()) {
        summary_["runs"].push_back(std::exchange(run_, nullptr));
        write_summary(Json::array());
    }
    append(row);
}

void ResultFolder::write_summary(const Json& tables) const {
    Json summary = summary_;
    summary["n_samples"] = rows_.size();
    summary["n_failed"] = std::count_if(rows_.begin(), rows_.end(), [](auto& row) { return row.failed(); });
    summary["tables"] = tables;
    write_file(summary_name, text::json_text(summary, 2) + "\n");
}

void ResultFolder::write_file(const std::string& name, const std::string& content) const {
    WholeFile(path_ + "/" + name, "").write(content);
}

std::string default_folder(const std::string& evaluation, const std::string& model_path) {
    return "eval-" + evaluation + "-" + fs::path(model_path).stem().string();
}

}  // namespace fastkv::cli
