#include "cli/tune_bench.h"

#include <algorithm>

#include "cli/input_text.h"
#include "cli/interrupt.h"
#include "cli/text.h"
#include "eval/statistics.h"
#include "tune/tuned.h"

namespace fastkv::cli {

namespace {

constexpr int filler_sentences = 4000;  // about 50,000 tokens; longer prompts repeat them

// What an answer depends on beside prompt and method.
std::string engine_text(const TuneOptions& options, const Model& model) {
    return model.hash() + format(" %s %s cache %d/%d%s", compute_name(model.params().compute).c_str(),
                                 ops_name(model.params().ops).c_str(), int(options.model.cache_type_k),
                                 int(options.model.cache_type_v), options.raw ? " raw" : "");
}

tune::AskerParams asker_params(const TuneOptions& options) {
    tune::AskerParams params;
    params.session.n_ctx = options.model.n_ctx;
    params.session.cache_type_k = options.model.cache_type_k;
    params.session.cache_type_v = options.model.cache_type_v;
    params.raw = options.raw;
    return params;
}

tune::PromptMaker make_prompt_maker(const TuneOptions& options, const Model& model, const tune::Asker& asker) {
    const auto count = [model](std::string_view text) { return int(model.tokenize(text, false, false).size()); };
    const auto count_prompt = [&asker](std::string_view text) { return int(asker.tokens(std::string(text)).size()); };
    return {eval::SourceText(tune_text(options), count), count, count_prompt, options.seed};
}

}  // namespace

Bench::Bench(const TuneOptions& options)
    : options_(options),
      model_(Model::load(options.model.path, options.model.params)),
      engine_(engine_text(options, model_)),
      file_(options.answers, engine_),
      asker_(model_, asker_params(options), file_, [] { return !interrupted(); }),
      maker_(make_prompt_maker(options_, model_, asker_)) {
    catch_interrupts();
}

tune::RetrievalPrompt Bench::prompt(int length, int index) const {
    const auto n_task = options_.tasks.size();
    tune::RetrievalPrompt prompt = maker_.make(options_.tasks[size_t(index) % n_task], length, index);
    prompt.n_predict = options_.n_predict.value_or(prompt.n_predict);
    return prompt;
}

tune::Cost Bench::cost(const MethodParams& method, int length) const {
    SessionParams session;
    session.cache_type_k = options_.model.cache_type_k;
    session.cache_type_v = options_.model.cache_type_v;
    session.n_predict = 0;
    const MethodParams fullkv{.method = "fullkv"};
    const CostEstimate own = estimate(model_, method, length, session);
    // Every cache has room for one token more, which is not of the prompt.
    const auto full = double(estimate(model_, fullkv, length, session).kv_cache_bytes);
    const double row = double(estimate(model_, fullkv, length + 1, session).kv_cache_bytes) - full;
    return {own.prefill_share, (double(own.kv_cache_bytes) - row) / (full - row)};
}

std::string tune_text(const TuneOptions& options) {
    if (options.files.empty()) return eval::filler_text(options.seed, filler_sentences);
    std::string text;
    for (const std::string& file : options.files) text += read_text_file(file) + "\n\n";
    return text;
}

std::string tune_text_name(const TuneOptions& options) {
    if (options.files.empty()) return "generated sentences";
    return options.files.size() == 1 ? options.files[0]
                                     : options.files[0] + format(" and %zu more", options.files.size() - 1);
}

std::string share_text(int right, int asked) {
    const eval::Interval interval = eval::wilson(right, asked);
    return format("%d of %d (%.0f to %.0f %%)", right, asked, 100 * interval.low, 100 * interval.high);
}

}  // namespace fastkv::cli
