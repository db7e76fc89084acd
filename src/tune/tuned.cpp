#include "tune/tuned.h"

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "fastkv/error.h"
#include "text/json.h"

namespace fastkv::tune {

namespace {

using Json = nlohmann::ordered_json;

constexpr int file_version = 1;

std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

}  // namespace

std::string tuned_path(const std::string& hash) {
    std::string folder = variable("XDG_CONFIG_HOME");
    // The XDG base directory specification: a path that is not absolute is to be ignored.
    if (!folder.starts_with('/')) folder = variable("HOME").empty() ? "" : variable("HOME") + "/.config";
    return folder.empty() ? "" : folder + "/fastkv/tuned/" + hash + ".json";
}

std::string tuned_json(const Tuned& tuned, const std::string& model_name) {
    Json json;
    json["version"] = file_version;
    json["model"] = model_name;
    json["method"] = tuned.method.method;
    Json params = Json::object();
    for (const ParamInfo& info : list_params()) {
        const std::string text = param_text(tuned.method, info.name);
        if (!text.empty()) params[info.name] = text;
    }
    json["params"] = params;
    for (const auto& [name, text] : tuned.found) json["found"][name] = text;
    return text::json_text(json, 2) + "\n";
}

Tuned tuned_of(const std::string& text, const std::string& path) {
    const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    Tuned tuned;
    try {
        if (json.at("version") != file_version) fail(path + " is of another version of fastkv");
        tuned.method.method = json.at("method").get<std::string>();
        for (const auto& [name, value] : json.at("params").items()) {
            set_param(tuned.method, name, value.get<std::string>());
        }
        const Json found = json.value("found", Json::object());
        for (const auto& [name, value] : found.items()) tuned.found.emplace_back(name, value.get<std::string>());
    } catch (const Json::exception&) {
        fail(path + " is not what fastkv tune writes");
    } catch (const Error& error) {
        if (error.kind() == ErrorKind::failure) throw;
        fail(path + ": " + error.what());
    }
    return tuned;
}

}  // namespace fastkv::tune
