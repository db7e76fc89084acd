#include "server/api_error.h"

#include <nlohmann/json.hpp>

namespace fastkv::server {

namespace {

const char* type_of(int status) {
    switch (status) {
        case 401: return "authentication_error";
        case 404: return "not_found_error";
        case 429: return "rate_limit_error";
        case 503: return "unavailable_error";
        default: return status < 500 ? "invalid_request_error" : "server_error";
    }
}

}  // namespace

std::string error_json(const ApiError& error) {
    nlohmann::ordered_json object = {
        {"message", error.message}, {"type", type_of(error.status)}, {"param", nullptr}, {"code", error.status}};
    if (!error.param.empty()) object["param"] = error.param;
    // what is wrong is quoted from the request, and may be cut within a character
    return nlohmann::ordered_json{{"error", object}}.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace fastkv::server
