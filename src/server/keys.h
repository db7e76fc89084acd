// Who may ask.
#pragma once

#include <array>
#include <string>
#include <vector>

namespace fastkv::server {

/// One key a line; blank lines and those that begin with # are left out. Throws Error(failure) naming the file.
std::vector<std::string> read_keys(const std::string& path);

using Sha256 = std::array<unsigned char, 32>;

class Keys {
  public:
    /// Without keys everybody may ask.
    explicit Keys(const std::vector<std::string>& keys);

    /// `authorization` "Bearer KEY", or `x_api_key` the key itself. How long this takes tells nothing of the keys, nor
    /// of their lengths.
    bool allow(const std::string& authorization, const std::string& x_api_key) const;

  private:
    std::vector<Sha256> digests_;  // of the keys
};

}  // namespace fastkv::server
