// What a client is told that cannot have what it asked for: OpenAI's error object and a status.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace fastkv::server {

struct ApiError {
    int status = 400;
    std::string message;
    std::string param = {};  ///< the field that is wrong, "" where it is none
    int retry_after = 0;     ///< seconds after which to try again; 0: not said
    std::string allow = {};  ///< of a 405: the methods that there are
};

/// Whoever asks again soon finds the next server, where there is one.
inline ApiError stopping() { return {.status = 503, .message = "the server is stopping", .retry_after = 10}; }

/// What a function came to: a value, or why there is none.
template <class T>
class Result {
  public:
    Result(T value) : value_(std::move(value)) {}
    Result(ApiError error) : value_(std::move(error)) {}

    explicit operator bool() const { return std::holds_alternative<T>(value_); }
    T& operator*() { return std::get<T>(value_); }
    const T& operator*() const { return std::get<T>(value_); }
    T* operator->() { return &std::get<T>(value_); }
    const ApiError& error() const { return std::get<ApiError>(value_); }

  private:
    std::variant<T, ApiError> value_;
};

/// {"error": {"message": ..., "type": ..., "param": ..., "code": ...}}
std::string error_json(const ApiError& error);

}  // namespace fastkv::server
