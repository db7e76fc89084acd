// Which tokens a model keeps and which it propagates: the methods and their parameters.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fastkv/model.h"

namespace fastkv {

/// How neighbouring scores are merged before selection.
enum class Pooling {
    max,  ///< the largest of the kernel's neighbours (the paper's)
    avg,  ///< their sum over the kernel size, zero padding counted
};

/// The layer after which only the selected tokens go on (Token-Selective Propagation).
struct TspLayer {
    static constexpr int model_default = -1;  ///< the published layer, else the same relative depth
    static constexpr int off = -2;            ///< no propagation: only the cache is compressed
};

/// A method and all its parameters. Rates are the shares that are KEPT, budgets count tokens per layer and
/// key/value head and include the window. An empty optional means "not given": the method's default, and a
/// method refuses a parameter that it does not use.
struct MethodParams {
    std::string method = "fastkv";
    std::optional<double> retain_rate;  ///< share of the prompt that each layer caches, (0, 1]; default 0.1
    std::optional<double> tsp_rate;     ///< share of the prompt that goes on past the TSP layer, (0, 1], not below
                                        ///< retain_rate; default 0.2, or retain_rate where that is higher
    std::optional<int> tsp_layer;       ///< counted from 0, or a TspLayer constant
    std::optional<int> window;          ///< the last tokens, which score the others and are always kept; 8
    std::optional<int> kernel;          ///< pooling kernel, odd; default 7
    std::optional<Pooling> pooling;     ///< default max
    std::optional<int> budget;          ///< constant mode: tokens cached per layer instead of retain_rate; >= window
    std::optional<int> tsp_len;         ///< constant mode: tokens propagated instead of tsp_rate; > window; 2048
};

/// One line of the registry.
struct MethodInfo {
    std::string name;     ///< as in --method
    std::string summary;  ///< one line for --help
    std::string source;   ///< the paper
};

/// All methods, in the order in which the documentation lists them.
std::vector<MethodInfo> list_methods();

/// `params` with every default of the method filled in for this model, and checked.
/// Throws Error(usage) for an unknown method, a parameter out of range, or one that the method ignores.
MethodParams resolve(const MethodParams& params, const HyperParams& hparams);

}  // namespace fastkv
