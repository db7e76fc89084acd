// The trace's names are those that other tools read: change none.
#include "cli/trace.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>

#include "cli/options.h"

namespace fastkv::cli {

namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

[[noreturn]] void fail_to_write(const std::string& path, int error) {
    fail("--trace " + path + ": cannot write: " + std::strerror(error));
}

struct CloseFile {
    void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

// A new file: never one that somebody else has put there.
File create(const std::string& path, const std::string& shown) {
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) fail_to_write(shown, errno);
    return File(fdopen(fd, "wb"));
}

void write_all(File file, const std::string& content, const std::string& shown) {
    errno = 0;
    const bool written = std::fwrite(content.data(), 1, content.size(), file.get()) == content.size();
    if (!written || std::fclose(file.release()) != 0) fail_to_write(shown, errno);
}

// Everything that is needed to run it again; parameters that the method does not have are left out.
Json params_json(const Model& model, const MethodParams& method, const SamplerParams& sampler) {
    Json json = Json::object();
    for (const ParamInfo& info : list_params()) {
        const std::string text = param_text(method, info.name);
        if (text.empty()) continue;
        const Json number = Json::parse(text, nullptr, false);
        json[info.name] = number.is_number() ? number : Json(text);
    }
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

TraceFile::TraceFile(const std::string& path) : path_(path) {
    std::error_code ignored;
    if (path.empty()) fail("--trace: no file name");
    if (fs::is_directory(path, ignored)) fail("--trace " + path + " is a folder, not a file");
    if (fs::exists(path, ignored)) {
        if (access(path.c_str(), W_OK) != 0) fail_to_write(path, errno);
        if (!fs::is_regular_file(path, ignored)) return;
        path_ = fs::canonical(path).string();
    }
    temporary_ = path_ + "." + std::to_string(getpid()) + ".tmp";
    create(temporary_, path);
    fs::remove(temporary_);
}

void TraceFile::write(const std::string& content) const {
    if (temporary_.empty()) {
        File file(std::fopen(path_.c_str(), "wb"));
        if (!file) fail_to_write(path_, errno);
        write_all(std::move(file), content, path_);
        return;
    }
    try {
        write_all(create(temporary_, path_), content, path_);
        if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail_to_write(path_, errno);
    } catch (...) {
        std::remove(temporary_.c_str());
        throw;
    }
}

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
    // A file name need not be UTF-8, JSON must.
    return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace fastkv::cli
