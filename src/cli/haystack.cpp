#include "cli/haystack.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <vector>

#include "cli/input_text.h"
#include "fastkv/error.h"

namespace fastkv::cli {

namespace {

namespace fs = std::filesystem;

// Where scripts/lib/common.sh puts the essays.
std::string essays_folder() {
    const auto variable = [](const char* name) {
        const char* value = std::getenv(name);
        return std::string(value ? value : "");
    };
    const std::string cache = variable("XDG_CACHE_HOME");
    return (cache.starts_with('/') ? cache : variable("HOME") + "/.cache") + "/fastkv/haystack";
}

std::string folder_text(const std::string& folder, const std::string& flag) {
    std::vector<std::string> files;
    for (const auto& entry : fs::directory_iterator(folder)) {
        if (entry.path().extension() == ".txt") files.push_back(entry.path().string());
    }
    if (files.empty()) fail(flag + " " + folder + " has no .txt files");
    std::sort(files.begin(), files.end());
    std::string text;
    for (const std::string& file : files) text += read_text_file(file) + "\n";
    return text;
}

}  // namespace

std::string haystack_text(const std::string& path, const std::string& flag) {
    const std::string folder = path.empty() ? essays_folder() : path;
    std::error_code ignored;
    if (fs::is_directory(folder, ignored)) return folder_text(folder, flag);
    if (!path.empty()) return read_text_file(path);
    fail("no essays in " + folder + ": 'python3 scripts/lib/fetch_data.py haystack " + folder +
         "' fetches them; or name a text or a folder of texts with " + flag);
}

}  // namespace fastkv::cli
