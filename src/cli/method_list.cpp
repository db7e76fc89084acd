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

// With the names of all methods in the place of "all".
std::string without_all(const std::string& methods) {
    std::string names, all;
    for (const MethodInfo& info : list_methods()) all.append(all.empty() ? "" : ",").append(info.name);
    for (const std::string& item : split(methods, ',')) {
        names.append(names.empty() ? "" : ",").append(item == "all" ? all : item);
    }
    return names;
}

// One value of each flag, and those of flags with several by name.
struct Combination {
    MethodParams params;
    std::vector<std::pair<std::string, std::string>> chosen;
};

std::vector<Combination> combinations(const MethodListOptions& options) {
    std::vector<Combination> all(1);
    for (const auto& [name, values] : options.shared) {
        std::vector<Combination> more;
        for (const Combination& some : all) {
            for (const std::string& value : values) {
                Combination& one = more.emplace_back(some);
                set_param(one.params, name, value);
                if (values.size() > 1) one.chosen.emplace_back(name, value);
            }
        }
        all = std::move(more);
    }
    return all;
}

// With the chosen values that went to the method: "fastkv:tsp_layer=14:retain_rate=0.1".
std::string name_with(const bench::NamedMethod& method, const Combination& combination) {
    std::string name = method.name;
    for (const auto& [param, value] : combination.chosen) {
        const std::string own = param_text(method.params, param);
        if (own == param_text(combination.params, param)) name.append(":").append(param).append("=").append(own);
    }
    return name;
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
    app.add_option("--methods,--method", options.methods,
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

std::vector<bench::NamedMethod> named_methods(const MethodListOptions& options) {
    const std::string methods = without_all(options.methods);
    std::vector<std::vector<bench::NamedMethod>> by_method;  // [methods]
    for (const Combination& combination : combinations(options)) {
        const auto named = bench::parse_methods(methods, combination.params);
        by_method.resize(named.size());
        for (size_t i = 0; i < named.size(); ++i) {
            const bool again = std::any_of(by_method[i].begin(), by_method[i].end(), [&](const auto& other) {
                return method_text(other.params) == method_text(named[i].params);
            });
            if (again) continue;  // a flag that does not concern it
            by_method[i].push_back({name_with(named[i], combination), named[i].params});
        }
    }
    std::vector<bench::NamedMethod> all;
    for (const auto& settings : by_method) all.insert(all.end(), settings.begin(), settings.end());
    return all;
}

std::vector<MethodParams> method_list(const MethodListOptions& options) {
    std::vector<MethodParams> all;
    std::set<std::string> seen;
    for (const bench::NamedMethod& method : named_methods(options)) {
        if (seen.insert(method_text(method.params)).second) all.push_back(method.params);
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
