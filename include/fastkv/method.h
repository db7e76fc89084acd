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

/// Which heads choose their own entries.
enum class SelectPer {
    kv_head,     ///< each key/value head: the memory that grouped queries promise
    query_head,  ///< each query head, which then has entries of its own: n_head / n_head_kv times the bytes (the
                 ///< reference's SnapKV and H2O)
};

/// Which keys H2O's scoring queries see.
enum class H2oMask {
    causal,     ///< those before them
    reference,  ///< all: the reference masks only inside the window
};

/// What H2O does while decoding.
enum class H2oDecode {
    keep,   ///< nothing (the reference)
    evict,  ///< scores go on adding up, and the cache stays at its budget, part heavy hitters, part recent (the paper)
};

/// What StreamingLLM does while decoding.
enum class Streaming {
    original,  ///< nothing is dropped, positions are those of the text (the reference)
    rolling,   ///< sinks and a rolling window of the budget's size, positions inside the cache (the paper)
};

/// What PyramidInfer drops while decoding.
enum class PyramidDecode {
    guarded,  ///< of each 16 entries that leave the recent ones a share, never a sink, never below the prompt's budget
    reference,  ///< as the reference: deep layers lose nearly all of the prompt
};

/// How budgets differ from layer to layer.
enum class LayerBudget {
    even,
    pyramid,  ///< falling from layer to layer around the same mean (PyramidKV, arXiv 2406.02069)
    upper,  ///< layers up to the TSP layer (without one: up to the middle) cache little beside what is protected, those
            ///< above them what they leave
};

/// Who scores the prompt's tokens.
enum class ScoreBy {
    window,    ///< the last tokens: what the question at the end looks at
    expected,  ///< queries to come, as the prompt's queries let expect them: for a document that will be asked many
               ///< questions (ExpectedAttention, arXiv 2510.00636)
};

/// A method and all its parameters. Rates are the shares that are KEPT, budgets count tokens per layer and
/// cached head and include the window. An empty optional means "not given": the method's default, and a
/// method refuses a parameter that it does not use.
struct MethodParams {
    /// Scores are shared by neighbours, and then by those that belong together by what the text is: numbers, words.
    static constexpr int kernel_auto = 0;

    std::string method = "fastkv";

    // fastkv, snapkv, h2o; retain_rate and budget also streamingllm and gemfilter
    std::optional<double> retain_rate;  ///< share of the prompt that each layer caches, (0, 1]; default 0.1
    std::optional<double> tsp_rate;     ///< share of the prompt that goes on past the TSP layer, (0, 1], not below
                                        ///< retain_rate; default 0.2, or retain_rate where that is higher
    std::optional<int> tsp_layer;       ///< counted from 0, or a TspLayer constant; default: fastkv's, else off
    std::optional<int> window;          ///< the last tokens, which score the others and are always kept; 8
    std::optional<int> kernel;          ///< pooling kernel, odd, or kernel_auto; default 7, with expected
                                        ///< scores kernel_auto; not h2o
    std::optional<Pooling> pooling;     ///< default max; not h2o
    std::optional<int> budget;          ///< constant mode: tokens cached per layer instead of retain_rate; >= window
    std::optional<int> min_budget;      ///< with retain_rate: at least so many tokens are cached and propagated: a fact
                                        ///< takes as many in a short prompt as in a long one; default 0
    std::optional<int> tsp_len;         ///< constant mode: tokens propagated instead of tsp_rate; > window; 2048

    // fastkv, with rates: a long prompt may do better with another TSP layer than a short one
    std::optional<int> long_prompt;       ///< from so many tokens on the next three hold instead; default: never
    std::optional<int> long_tsp_layer;    ///< counted from 0; default tsp_layer
    std::optional<double> long_tsp_rate;  ///< (0, 1]; default tsp_rate; then retain_rate is at most that
    std::optional<int> long_window;       ///< default window

    // their variants
    std::optional<SelectPer> select_per;      ///< snapkv, h2o; default kv_head
    std::optional<ScoreBy> score;             ///< fastkv, snapkv; default window
    std::optional<int> tsp_score_layers;      ///< propagation by the maximum over so many layers (CLAA); default 1
    std::optional<double> head_floor;         ///< heads share the layer's budget by score, each keeps at least this
                                              ///< share of its own, [0, 1] (AdaKV); default 1: all alike
    std::optional<LayerBudget> layer_budget;  ///< default even

    /// First tokens, always kept; 4. streamingllm, pyramidinfer, and fastkv and snapkv with ScoreBy::expected.
    std::optional<int> sinks;

    // h2o
    std::optional<H2oMask> h2o_mask;      ///< default causal
    std::optional<H2oDecode> h2o_decode;  ///< default keep
    std::optional<double> h2o_recent;     ///< with evict: share of the budget for recent tokens, [0, 1]; default 0.5
    // streamingllm
    std::optional<Streaming> streaming;  ///< default original
    // gemfilter
    std::optional<int> filter_layer;  ///< from 0; default: the published one, else a like depth
    // pyramidinfer; the reference's names are in docs/methods.md
    std::optional<std::string> pyramid_preset;      ///< default "llama-0.6"; the values below override it
    std::optional<double> pyramid_recent;           ///< share of the prompt whose queries score and are kept, [0, 1)
    std::optional<double> pyramid_decay;            ///< share of the context that the last layer would pass on, [0, 1]
    std::optional<int> pyramid_min_context;         ///< a smaller context is not reduced; default 64
    std::optional<double> pyramid_distance_weight;  ///< of the last scoring query, the first has 1; default 1.2
    std::optional<PyramidDecode> pyramid_decode;    ///< default guarded
    std::optional<double> pyramid_decode_keep;      ///< share of a block that is kept while decoding; default 0.9
    std::optional<int> pyramid_decode_block;        ///< tokens of a block; default 16
};

/// One line of the registry.
struct MethodInfo {
    std::string name;                 ///< as in --method
    std::string summary;              ///< one line for --help
    std::string source;               ///< the paper
    std::vector<std::string> params;  ///< names of the parameters that it uses; it refuses all others
};

/// All methods, in the order in which the documentation lists them.
std::vector<MethodInfo> list_methods();

/// `params` with every default of the method filled in for this model, and checked.
/// Throws Error(usage) for an unknown method, a parameter out of range, or one that the method ignores.
MethodParams resolve(const MethodParams& params, const HyperParams& hparams);

/// A parameter as text, for whoever reads or writes it: flags, traces, requests.
struct ParamInfo {
    std::string name;   ///< "retain_rate": the member of MethodParams
    std::string flag;   ///< "--retain-rate": the same on a command line, and in messages
    std::string value;  ///< what stands behind the flag: "R", "N|off", "max|avg"
    std::string group;  ///< parameters that belong together, as a heading
    std::string help;   ///< one line
};

/// All parameters, those of most use first.
std::vector<ParamInfo> list_params();

/// Reads a parameter: a number, or one of its words. Throws Error(usage) where `name` or `text` is none.
void set_param(MethodParams& params, const std::string& name, const std::string& text);

/// Takes a parameter back: it is not given any more. Throws Error(usage) where `name` is none.
void clear_param(MethodParams& params, const std::string& name);

/// The parameter as set_param() reads it, "" where it is not given. Throws Error(usage) where `name` is none.
std::string param_text(const MethodParams& params, const std::string& name);

/// The method and all parameters that are given, as on a command line: "fastkv --retain-rate 0.1 --window 8".
std::string method_text(const MethodParams& params);

}  // namespace fastkv
