#include "text/json.h"

namespace fastkv::text {

using nlohmann::ordered_json;

std::string json_text(const ordered_json& json, int indent) {
    return json.dump(indent, ' ', false, ordered_json::error_handler_t::replace);
}

ordered_json params_json(const MethodParams& method) {
    ordered_json params = ordered_json::object();
    for (const ParamInfo& info : list_params()) {
        const std::string text = param_text(method, info.name);
        if (text.empty()) continue;
        const ordered_json number = ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
        params[info.name] = number.is_number() ? number : ordered_json(text);
    }
    return params;
}

}  // namespace fastkv::text
