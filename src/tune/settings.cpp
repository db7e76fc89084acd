#include "tune/settings.h"

#include <algorithm>
#include <sstream>

#include "eval/random.h"
#include "fastkv/error.h"

namespace fastkv::tune {

Dimension parse_dimension(const std::string& text) {
    const size_t equals = text.find('=');
    Dimension dimension{text.substr(0, equals), {}};
    std::replace(dimension.first.begin(), dimension.first.end(), '-', '_');
    if (equals != std::string::npos) {
        std::istringstream values(text.substr(equals + 1));
        for (std::string value; std::getline(values, value, ',');) dimension.second.push_back(value);
    }
    if (dimension.second.empty()) refuse("--try " + text + " lists no values; as in --try kernel=15,21,auto");
    MethodParams scratch;
    for (const std::string& value : dimension.second) set_param(scratch, dimension.first, value);
    return dimension;
}

bool allows(const Limits& limits, const Cost& cost) {
    return cost.work <= limits.max_work && cost.cache <= limits.max_cache;
}

namespace {

bool is_cheaper(const Setting& a, const Setting& b) {
    return a.cost.work != b.cost.work ? a.cost.work < b.cost.work : a.cost.cache < b.cost.cache;
}

}  // namespace

std::vector<Setting> list_settings(const MethodParams& base, const std::vector<Dimension>& dimensions,
                                   const Limits& limits, const CostOf& cost_of) {
    std::vector<MethodParams> all = {base};
    for (const auto& [name, values] : dimensions) {
        std::vector<MethodParams> longer;
        for (const MethodParams& method : all) {
            for (const std::string& value : values) set_param(longer.emplace_back(method), name, value);
        }
        all = std::move(longer);
    }
    std::vector<Setting> settings;
    size_t n_refused = 0;
    for (const MethodParams& method : all) {
        try {
            const Cost cost = cost_of(method);
            if (allows(limits, cost)) settings.push_back({method, cost});
        } catch (const Error& error) {
            // A combination that does not go together; where none does, this is why.
            if (error.kind() != ErrorKind::usage || ++n_refused == all.size()) throw;
        }
    }
    std::stable_sort(settings.begin(), settings.end(), is_cheaper);
    return settings;
}

std::vector<Setting> sample_settings(const std::vector<Setting>& settings, int count, uint64_t seed) {
    if (int(settings.size()) <= count) return settings;
    // Selection sampling (Knuth, TAOCP 2, algorithm 3.4.2 S): in order, each with the chance that is left.
    eval::Random random(seed);
    std::vector<Setting> sample;
    for (size_t i = 0; i < settings.size(); ++i) {
        const auto wanted = uint64_t(count) - sample.size();
        if (random.below(settings.size() - i) < wanted) sample.push_back(settings[i]);
    }
    return sample;
}

void add_setting(std::vector<Setting>& settings, const Setting& setting, const HyperParams& hparams) {
    const std::string text = method_text(setting.method);
    const bool known = std::any_of(settings.begin(), settings.end(), [&](const Setting& other) {
        return method_text(resolve(other.method, hparams)) == text;
    });
    if (!known) settings.insert(std::upper_bound(settings.begin(), settings.end(), setting, is_cheaper), setting);
}

}  // namespace fastkv::tune
