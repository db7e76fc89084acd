#include "server/keys.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <strings.h>

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
        line.erase(0, line.find_first_not_of(" \t"));
        if (!line.empty() && line[0] != '#') keys.push_back(line);
    }
    if (file.bad()) fail(path + ": cannot read: " + std::strerror(errno));
    if (keys.empty()) fail(path + " holds no key (one a line)");
    return keys;
}

namespace {

Sha256 digest_of(const std::string& text) {
    Sha256 digest;
    if (gnutls_hash_fast(GNUTLS_DIG_SHA256, text.data(), text.size(), digest.data()) != 0) {
        fail("GnuTLS cannot compute SHA-256: API keys cannot be checked");
    }
    return digest;
}

}  // namespace

Keys::Keys(const std::vector<std::string>& keys) {
    for (const std::string& key : keys) digests_.push_back(digest_of(key));
}

bool Keys::allow(const std::string& authorization, const std::string& x_api_key) const {
    if (digests_.empty()) return true;
    const std::string bearer = "Bearer ";  // in upper or lower case (RFC 9110, 11.1)
    const bool bears = strncasecmp(authorization.c_str(), bearer.c_str(), bearer.size()) == 0;
    const Sha256 given = digest_of(bears ? authorization.substr(bearer.size()) : x_api_key);
    bool known = false;
    for (const Sha256& key : digests_) known |= gnutls_memcmp(given.data(), key.data(), key.size()) == 0;
    return known;
}

}  // namespace fastkv::server
