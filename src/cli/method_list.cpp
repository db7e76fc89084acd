#include "cli/method_list.h"

#include <algorithm>
#include <set>
#include <sstream>

#include "cli/method_choice.h"

namespace fastkv::cli {

namespace {

std::vector<std::string> split(const std::string& text, char separator) {
    std::vector<std::string> items;
    std::istringstream stream(text);
    for (std::string item; std::getline(stream, item, separator);) items.push_back(item);
    return items;
}

const MethodInfo& info_of(const std::string& name) {
    static const std::vector<MethodInfo> methods = list_methods();
    std::string names;
    for (const MethodInfo& method : methods) {
        if (method.name == name) return method;
        names += (names.empty() ? "" : ", ") + method.name;
    }
    refuse("--methods " + name + " is unknown; there are: " + names + ", all");
}

bool knows(const MethodInfo& method, const std::string& param) {
    return std::find(method.params.begin(), method.params.end(), param) != method.params.end();
}

// "fastkv:tsp_layer=14:retain-rate=0.1"
MethodParams parse_method(const std::string& text) {
    std::vector<std::string> parts = split(text, ':');
    if (parts.empty()) refuse("--methods has an empty name");
    MethodParams params;
    params.method = info_of(parts[0]).name;
    for (size_t i = 1; i < parts.size(); ++i) {
        const size_t equals = parts[i].find('=');
        if (equals == std::string::npos) refuse("--methods " + text + ": " + parts[i] + " is not PARAMETER=VALUE");
        std::string name = parts[i].substr(0, equals);
        std::replace(name.begin(), name.end(), '-', '_');
        set_param(params, name, parts[i].substr(equals + 1));
    }
    return params;
}

std::vector<MethodParams> parse_methods(const std::string& text) {
    std::vector<MethodParams> methods;
    for (const std::string& item : split(text, ',')) {
        if (item == "all") {
            for (const MethodInfo& info : list_methods()) methods.emplace_back().method = info.name;
        } else {
            methods.push_back(parse_method(item));
        }
    }
    if (methods.empty()) refuse("--methods needs names, such as fullkv,fastkv");
    return methods;
}

// One setting of each value, on top of each of `settings` that does not have the parameter already.
std::vector<MethodParams> with_values(const std::vector<MethodParams>& settings, const std::string& name,
                                      const std::vector<std::string>& values) {
    std::vector<MethodParams> all;
    for (const MethodParams& setting : settings) {
        if (!param_text(setting, name).empty()) {
            all.push_back(setting);
            continue;
        }
        for (const std::string& value : values) set_param(all.emplace_back(setting), name, value);
    }
    return all;
}

std::vector<std::string> checked_values(const ParamInfo& info, const std::string& text) {
    const std::vector<std::string> values = split(text, ',');
    if (values.empty()) refuse(info.flag + " needs a value");
    MethodParams scratch;
    for (const std::string& value : values) set_param(scratch, info.name, value);
    return values;
}

}  // namespace

void add_method_list_options(CLI::App& app, MethodListOptions& options) {
    app.option_defaults()->group("Methods");
    app.add_option("--methods", options.methods,
                   "NAME or NAME:PARAMETER=VALUE:..., several by commas, or all (default fullkv,fastkv);\n"
                   "the flags below hold for all that know them, and take lists: --retain-rate 0.1,0.2")
        ->type_name("LIST");
    app.add_flag("--no-tuned", options.no_tuned, "the defaults, whatever fastkv tune has found for this model");
    for (const ParamInfo& info : list_params()) {
        app.option_defaults()->group(info.group);
        app.add_option_function<std::string>(
               info.flag,
               [&options, info](const std::string& text) {
                   options.shared.emplace_back(info.name, checked_values(info, text));
               },
               info.help)
            ->type_name(info.value);
    }
}

std::vector<MethodParams> method_list(const MethodListOptions& options) {
    const std::vector<MethodParams> methods = parse_methods(options.methods);
    for (const auto& [name, values] : options.shared) {
        const auto uses = [&, &param = name](const MethodParams& method) {
            return knows(info_of(method.method), param);
        };
        if (std::none_of(methods.begin(), methods.end(), uses)) {
            std::string flag = "--" + name;
            std::replace(flag.begin(), flag.end(), '_', '-');
            refuse(flag + " is used by none of --methods " + options.methods);
        }
    }
    std::vector<MethodParams> all;
    for (const MethodParams& method : methods) {
        std::vector<MethodParams> settings = {method};
        for (const auto& [name, values] : options.shared) {
            if (knows(info_of(method.method), name)) settings = with_values(settings, name, values);
        }
        all.insert(all.end(), settings.begin(), settings.end());
    }
    return all;
}

std::vector<MethodParams> resolved_methods(const MethodListOptions& options, const Model& model) {
    std::vector<MethodParams> resolved;
    std::set<std::string> seen;
    for (const MethodParams& params : method_list(options)) {
        const MethodParams setting = resolve(choose_method({params, options.no_tuned}, model), model.hparams());
        if (seen.insert(method_text(setting)).second) resolved.push_back(setting);
    }
    return resolved;
}

}  // namespace fastkv::cli
