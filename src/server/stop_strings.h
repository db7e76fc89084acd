// Texts that end an answer, found while it grows.
#pragma once

#include <string>
#include <vector>

namespace fastkv::server {

class StopStrings {
  public:
    explicit StopStrings(std::vector<std::string> stop) : stop_(std::move(stop)) {}

    /// What can be shown after `text`: what may be the beginning of a stop text is held back, and nothing is shown from
    /// the first stop text on.
    std::string push(const std::string& text);
    /// What was held back, when the answer ends by itself.
    std::string finish();
    bool found() const { return found_; }

  private:
    size_t held_back() const;

    std::vector<std::string> stop_;
    std::string pending_;
    bool found_ = false;
};

}  // namespace fastkv::server
