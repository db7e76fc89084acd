#include "cli/method_list.h"

#include <algorithm>
#include <set>
#include <sstream>

#include "bench/methods.h"
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

// The values of the flags in all combinations.
std::vector<MethodParams> combinations(const MethodListOptions& options) {
    std::vector<MethodParams> all(1);
    for (const auto& [name, values] : options.shared) {
        std::vector<MethodParams> more;
        for (const MethodParams& params : all) {
            for (const std::string& value : values) set_param(more.emplace_back(params), name, value);
        }
        all = std::move(more);
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
    const std::string methods = without_all(options.methods);
    std::vector<std::vector<MethodParams>> by_method;  // [methods]; those that a flag does not concern come up again
    std::set<std::string> seen;
    for (const MethodParams& shared : combinations(options)) {
        const auto named = bench::parse_methods(methods, shared);
        by_method.resize(named.size());
        for (size_t i = 0; i < named.size(); ++i) {
            if (seen.insert(method_text(named[i].params)).second) by_method[i].push_back(named[i].params);
        }
    }
    std::vector<MethodParams> all;
    for (const auto& settings : by_method) all.insert(all.end(), settings.begin(), settings.end());
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
