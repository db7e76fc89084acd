// The trace's names are those that other tools read: change none.
#include "cli/trace.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "cli/options.h"
#include "text/json.h"

namespace fastkv::cli {

namespace {

using Json = nlohmann::ordered_json;

// Everything that is needed to run it again; parameters that the method does not have are left out.
Json params_json(const Model& model, const MethodParams& method, const SamplerParams& sampler) {
    Json json = text::params_json(method);
    json["compute"] = compute_name(model.params().compute);
    json["ops"] = ops_name(model.params().ops);
    json["threads"] = model.params().n_threads;
    json["gpu_layers"] = model.params().n_gpu_layers;
    json["temp"] = sampler.temperature;
    json["top_k"] = sampler.top_k;
    json["top_p"] = sampler.top_p;
    json["min_p"] = sampler.min_p;
    json["seed"] = sampler.seed;
    json["repeat_penalty"] = sampler.repeat_penalty;
    json["ignore_eos"] = sampler.ignore_eos;
    return json;
}

Json logits_json(std::span<const float> logits) {
    std::vector<int> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    const auto n_top = std::min<size_t>(20, order.size());
    const auto rank = [&](int id) { return std::isnan(logits[size_t(id)]) ? -INFINITY : logits[size_t(id)]; };
    std::partial_sort(order.begin(), order.begin() + std::ptrdiff_t(n_top), order.end(),
                      [&](int a, int b) { return rank(a) != rank(b) ? rank(a) > rank(b) : a < b; });
    Json top = Json::array();
    for (size_t i = 0; i < n_top; ++i) top.push_back({order[i], logits[size_t(order[i])]});
    double sum = 0, squares = 0;
    for (const float logit : logits) {
        sum += logit;
        squares += double(logit) * logit;
    }
    return {{"top", top}, {"sum", sum}, {"l2", std::sqrt(squares)}};
}

// One list per cached head, also where all heads keep the same and the report says it once.
Json kept_json(const LayerReport& layer) {
    Json kept = Json::array();
    for (int head = 0; head < layer.n_head_cached; ++head) kept.push_back(layer.kept_by(head));
    return kept;
}

void put_layers(Json& json, const Session& session) {
    Json layers = Json::array(), propagated = Json::array();
    int index = 0;
    for (const LayerReport& layer : session.layers()) {
        layers.push_back(
            {{"layer", index}, {"rows", layer.rows}, {"cached", layer.cached}, {"kept", kept_json(layer)}});
        if (!layer.propagated.empty()) propagated.push_back({{"layer", index}, {"positions", layer.propagated}});
        ++index;
    }
    json["layers"] = std::move(layers);
    json["propagated"] = std::move(propagated);
}

}  // namespace

std::string trace_json(const Model& model, const Session& session, const SamplerParams& sampler, const Answer& answer) {
    const PhaseStats& prefill = session.prefill_stats();
    const PhaseStats& decode = session.decode_stats();
    const MemoryStats memory = session.memory();
    const HyperParams& hparams = model.hparams();

    Json json;
    json["version"] = version();
    json["model"] = {{"file", model.path()}, {"arch", hparams.arch}, {"n_params", hparams.n_params}};
    json["method"] = session.method().method;
    json["params"] = params_json(model, session.method(), sampler);
    json["n_prompt"] = session.n_prompt();
    put_layers(json, session);
    json["first_logits"] = logits_json(answer.first_logits);
    json["generated"] = answer.tokens;
    json["text"] = answer.text;
    json["margins"] = answer.margins;
    json["prefill"] = {{"seconds", prefill.seconds}, {"tokens_per_second", prefill.tokens_per_second()}};
    json["decode"] = {
        {"tokens", decode.tokens}, {"seconds", decode.seconds}, {"tokens_per_second", decode.tokens_per_second()}};
    json["memory"] = {{"kv_cache_bytes", memory.kv_cache_bytes},
                      {"weights_bytes", memory.weights_bytes},
                      {"peak_rss_bytes", memory.peak_rss_bytes}};
    return text::json_text(json) + "\n";
}

}  // namespace fastkv::cli
