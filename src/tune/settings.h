// The settings that a search tries: every combination of some parameters' values, within limits of work and cache.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "fastkv/method.h"

namespace fastkv::tune {

/// A parameter by its name in MethodParams, and its values as set_param() reads them.
using Dimension = std::pair<std::string, std::vector<std::string>>;

struct Cost {
    double work = 1;   ///< floating-point operations of the prefill, of FullKV's
    double cache = 1;  ///< bytes of the cache after it, of FullKV's
};

struct Setting {
    MethodParams method;
    Cost cost;
};

struct Limits {
    double max_work = 1;
    double max_cache = 1;
};

bool allows(const Limits& limits, const Cost& cost);

using CostOf = std::function<Cost(const MethodParams&)>;

/// "kernel=15,21,auto". Throws Error(usage) for what is no parameter or no value of it.
Dimension parse_dimension(const std::string& text);

/// All combinations on top of `base` that the method accepts and the limits allow, the cheapest first. `cost_of` throws
/// Error(usage) for those that the method refuses; where it refuses all, so does this.
std::vector<Setting> list_settings(const MethodParams& base, const std::vector<Dimension>& dimensions,
                                   const Limits& limits, const CostOf& cost_of);

/// `count` of them at random, still the cheapest first: with several parameters of which few matter, chance covers
/// each one's values better than a coarser grid (Bergstra and Bengio 2012).
std::vector<Setting> sample_settings(const std::vector<Setting>& settings, int count, uint64_t seed);

/// Adds `setting`, whose parameters are all filled in, to settings in order of cost, unless it is one of them.
void add_setting(std::vector<Setting>& settings, const Setting& setting, const HyperParams& hparams);

}  // namespace fastkv::tune
