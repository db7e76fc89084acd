#include "cli/input_text.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <vector>

#include "cli/text.h"
#include "fastkv/error.h"

namespace fastkv::cli {

std::string read_stream(std::FILE* stream, const std::string& name) {
    std::string content;
    std::vector<char> block(1 << 16);
    while (const size_t n = std::fread(block.data(), 1, block.size(), stream)) content.append(block.data(), n);
    if (std::ferror(stream)) fail(name + ": cannot read: " + std::strerror(errno));
    return content;
}

std::string read_file(const std::string& path) {
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored)) fail(path + " is a folder, not a file");
    std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
    if (!file) fail(path + ": cannot open: " + std::strerror(errno));
    return read_stream(file.get(), path);
}

std::string checked_text(std::string text, const std::string& name) {
    const size_t valid = valid_utf8_prefix(text);
    if (valid < text.size()) {
        fail(format("%s is not valid UTF-8: byte 0x%02X at offset %zu; convert it first, for example with iconv",
                    name.c_str(), unsigned(static_cast<unsigned char>(text[valid])), valid));
    }
    if (text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);
    if (text.ends_with('\n')) text.pop_back();
    if (text.ends_with('\r')) text.pop_back();
    return text;
}

std::string read_text_file(const std::string& path) {
    std::string text = checked_text(read_file(path), path);
    if (is_blank(text)) refuse(path + " is empty");
    return text;
}

bool is_blank(const std::string& text) { return text.find_first_not_of(" \t\r\n\f\v") == std::string::npos; }

std::string join_message(const std::string& document, const std::string& question) {
    if (is_blank(document)) return question;
    return is_blank(question) ? document : document + "\n\n" + question;
}

}  // namespace fastkv::cli
