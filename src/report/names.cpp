#include "report/names.h"

#include <algorithm>

#include "eval/summary.h"
#include "fastkv/method.h"
#include "report/shown.h"

namespace fastkv::report {

namespace {

std::string method_of(const std::string& setting) { return setting.substr(0, setting.find(' ')); }

/// As the documentation lists them; unknown ones behind.
size_t method_place(const std::string& method) {
    static const std::vector<MethodInfo> methods = list_methods();
    const auto found = std::find_if(methods.begin(), methods.end(), [&](auto& info) { return info.name == method; });
    return size_t(found - methods.begin());
}

}  // namespace

SettingNames::SettingNames(const Results& results) {
    for (const Model& model : results.models) {
        for (const Evaluation& evaluation : model.evaluations) {
            for (const eval::Row& row : evaluation.rows) add(row.setting);
        }
        for (const Bench& bench : model.benches) {
            for (const BenchRow& row : bench.rows) add(row.setting);
        }
    }
    name_all();
}

void SettingNames::add(const std::string& setting) {
    if (std::find(settings_.begin(), settings_.end(), setting) == settings_.end()) settings_.push_back(setting);
}

void SettingNames::name_all() {
    std::stable_sort(settings_.begin(), settings_.end(),
                     [](auto& a, auto& b) { return method_place(method_of(a)) < method_place(method_of(b)); });
    const std::vector<std::string> names = eval::short_names(settings_);
    std::map<std::string, int> n_of_method;
    for (size_t i = 0; i < settings_.size(); ++i) {
        const std::string method = method_of(settings_[i]);
        const int nth = n_of_method[method]++;
        const size_t place = method_place(method), full = method_place("fullkv");
        const plot::Paint paint =
            place == full ? plot::Paint::ink() : plot::Paint::series(int(place > full ? place - 1 : place));
        looks_.emplace(settings_[i], SettingLook{names[i], paint, plot::marker_of(nth), nth % 2 == 1});
    }
}

size_t SettingNames::place(const std::string& setting) const {
    return size_t(std::find(settings_.begin(), settings_.end(), setting) - settings_.begin());
}

void PictureNames::name_all(const std::vector<std::string>& settings) {
    const std::vector<std::string> names = eval::short_names(settings);
    for (size_t i = 0; i < names.size(); ++i) names_[settings[i]] = clipped(names[i], most);
}

}  // namespace fastkv::report
