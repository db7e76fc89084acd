// Who may ask.
#pragma once

#include <string>
#include <vector>

namespace fastkv::server {

/// One key a line; blank lines and those that begin with # are left out. Throws Error(failure) naming the file.
std::vector<std::string> read_keys(const std::string& path);

class Keys {
  public:
    /// Without keys everybody may ask.
    explicit Keys(std::vector<std::string> keys) : keys_(std::move(keys)) {}

    /// `authorization` "Bearer KEY", or `x_api_key` the key itself. How long this takes tells nothing of the keys.
    bool allow(const std::string& authorization, const std::string& x_api_key) const;

  private:
    std::vector<std::string> keys_;
};

}  // namespace fastkv::server
