#include "bench/methods.h"

#include <algorithm>
#include <sstream>

#include "fastkv/error.h"

namespace fastkv::bench {

namespace {

constexpr const char* example = "; as in --methods fullkv,fastkv:tsp_layer=14:retain_rate=0.1";

bool contains(const std::vector<std::string>& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

MethodInfo find_info(const std::string& name) {
    std::string known;
    for (MethodInfo& info : list_methods()) {
        if (info.name == name) return std::move(info);
        known += (known.empty() ? "" : ", ") + info.name;
    }
    refuse("--methods: " + (name.empty() ? "an empty name" : name) + " is unknown; there are: " + known);
}

std::string flag_of(const std::string& param) {
    for (const ParamInfo& info : list_params()) {
        if (info.name == param) return info.flag;
    }
    return param;
}

// "tsp_layer=14", or with hyphens as in the flag.
void set_from_text(MethodParams& params, const MethodInfo& info, const std::string& text) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos) refuse("--methods: " + text + " has no value" + example);
    std::string name = text.substr(0, equals);
    std::replace(name.begin(), name.end(), '-', '_');
    set_param(params, name, text.substr(equals + 1));
    if (!contains(info.params, name)) refuse("--methods: " + flag_of(name) + " is not used by " + info.name);
}

NamedMethod parse_method(const std::string& text, const MethodParams& shared) {
    std::istringstream parts(text);
    std::string part;
    std::getline(parts, part, ':');
    const MethodInfo info = find_info(part);
    NamedMethod method{text, {}};
    method.params.method = info.name;
    for (const std::string& name : info.params) {
        const std::string value = param_text(shared, name);
        if (!value.empty()) set_param(method.params, name, value);
    }
    while (std::getline(parts, part, ':')) set_from_text(method.params, info, part);
    return method;
}

// A shared parameter must say something to somebody.
void refuse_idle(const std::vector<NamedMethod>& methods, const MethodParams& shared) {
    std::string names;
    for (const NamedMethod& method : methods) names += (names.empty() ? "" : ", ") + method.params.method;
    for (const ParamInfo& param : list_params()) {
        if (param_text(shared, param.name).empty()) continue;
        const bool used = std::any_of(methods.begin(), methods.end(), [&](const NamedMethod& method) {
            return contains(find_info(method.params.method).params, param.name);
        });
        if (!used) refuse(param.flag + " is not used by " + names);
    }
}

}  // namespace

std::vector<NamedMethod> parse_methods(const std::string& text, const MethodParams& shared) {
    std::vector<NamedMethod> methods;
    std::istringstream items(text);
    for (std::string item; std::getline(items, item, ',');) methods.push_back(parse_method(item, shared));
    if (methods.empty()) refuse(std::string("--methods names none") + example);
    refuse_idle(methods, shared);
    return methods;
}

}  // namespace fastkv::bench
