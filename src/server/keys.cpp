#include "server/keys.h"

#include <cerrno>
#include <cstring>
#include <fstream>

#include "fastkv/error.h"

namespace fastkv::server {

std::vector<std::string> read_keys(const std::string& path) {
    std::ifstream file(path);
    if (!file) fail(path + ": cannot open: " + std::strerror(errno));
    std::vector<std::string> keys;
    for (std::string line; std::getline(file, line);) {
        line.erase(line.find_last_not_of(" \t\r") + 1);
        if (!line.empty() && line[0] != '#') keys.push_back(line);
    }
    if (file.bad()) fail(path + ": cannot read: " + std::strerror(errno));
    if (keys.empty()) fail(path + " holds no key (one a line)");
    return keys;
}

namespace {

/// Every byte of `given` is looked at, whatever differs before.
bool same(const std::string& given, const std::string& key) {
    size_t difference = given.size() ^ key.size();
    for (size_t i = 0; i < given.size(); ++i) {
        difference |= size_t(static_cast<unsigned char>(given[i]) ^ static_cast<unsigned char>(key[i % key.size()]));
    }
    return difference == 0;
}

}  // namespace

bool Keys::allow(const std::string& authorization, const std::string& x_api_key) const {
    if (keys_.empty()) return true;
    const std::string bearer = "Bearer ";
    const std::string given = authorization.starts_with(bearer) ? authorization.substr(bearer.size()) : x_api_key;
    bool known = false;
    for (const std::string& key : keys_) known |= same(given, key);
    return known;
}

}  // namespace fastkv::server
