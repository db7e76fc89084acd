// Typed fields of a JSON object. The first that is wrong is remembered; whoever reads asks once, at the end.
#pragma once

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <vector>

#include "fastkv/model.h"
#include "server/api_error.h"

namespace fastkv::server {

/// A request's body, which must be an object. Throws nothing.
Result<nlohmann::json> parse_object(const std::string& body);

/// Fields that are missing or null are not given; others are ignored.
class Fields {
  public:
    explicit Fields(const nlohmann::json& object) : object_(object) {}

    bool flag(const char* name, bool otherwise);
    std::optional<int64_t> integer(const char* name, int64_t least, int64_t most);
    std::optional<double> number(const char* name, double least, double most);
    std::optional<std::string> text(const char* name);
    /// One text or a list of them.
    std::vector<std::string> texts(const char* name);
    /// A list of token ids below `n_vocab`.
    std::optional<std::vector<Token>> tokens(const char* name, int n_vocab);

    /// The field itself, or nullptr.
    const nlohmann::json* find(const char* name) const;

    void refuse(const std::string& param, const std::string& message);
    const std::optional<ApiError>& error() const { return error_; }

  private:
    const nlohmann::json& object_;
    std::optional<ApiError> error_;
};

/// Whether `list` is one of token ids below `n_vocab`; they are added to `tokens`.
bool read_tokens(const nlohmann::json& list, int n_vocab, std::vector<Token>& tokens);

}  // namespace fastkv::server
