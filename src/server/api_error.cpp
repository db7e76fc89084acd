#include "server/api_error.h"

#include "text/json.h"

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
    return text::json_text({{"error", object}});
}

}  // namespace fastkv::server
