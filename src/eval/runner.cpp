#include "eval/runner.h"

#include <algorithm>
#include <new>
#include <optional>

namespace fastkv::eval {

namespace {

constexpr int reference_limit = 7950;

// Floating-point operations of reading and answering, about: for the time that is left, no more.
double work_of(const Model& model, const SampleInfo& sample, double prefill_share) {
    const HyperParams& hp = model.hparams();
    const double linear = 2.0 * double(hp.n_params);
    const double attention = 2.0 * sample.n_tokens * hp.n_layer * hp.n_head * hp.head_dim;
    // A token of the answer reads all weights for itself: some ten times the time of one in a prompt.
    return prefill_share * sample.n_tokens * (linear + attention) + 10 * linear * sample.n_predict;
}

struct Pair {
    size_t sample, setting;
    double work;
};

class Run {
  public:
    Run(const Model& model, const Measurement& evaluation, const std::vector<MethodParams>& settings,
        const RunParams& params, const OnProgress& progress)
        : model_(model), evaluation_(evaluation), settings_(settings), params_(params), progress_(progress) {}

    void ask_all(const std::set<std::string>& done, const std::function<void(const Row&)>& keep) {
        const std::vector<Pair> pairs = pairs_left(done);
        state_.n_total = int(pairs.size());
        for (const Pair& pair : pairs) state_.work += pair.work;
        std::optional<Sample> sample;
        size_t made = 0;
        for (const Pair& pair : pairs) {
            if (!sample || made != pair.sample) sample = evaluation_.make(made = pair.sample);
            keep(ask(*sample, settings_[pair.setting], pair.work));
            state_.work_done += pair.work;
            ++state_.n_done;
        }
    }

  private:
    std::vector<Pair> pairs_left(const std::set<std::string>& done) const {
        const std::vector<SampleInfo> samples = evaluation_.samples();
        std::set<std::string> taken = done;  // a length or a question may have been listed twice
        std::vector<Pair> pairs;
        for (size_t i = 0; i < samples.size(); ++i) {
            for (size_t j = 0; j < settings_.size(); ++j) {
                if (!taken.insert(key_of(method_text(settings_[j]), samples[i].id)).second) continue;
                const int n_prompt = std::max(1, int(samples[i].n_tokens));
                const double share = estimate(model_, settings_[j], n_prompt, params_.session).prefill_share;
                pairs.push_back({i, j, work_of(model_, samples[i], share)});
            }
        }
        return pairs;
    }

    Row ask(const Sample& sample, const MethodParams& method, double work) {
        Row row{.id = sample.id,
                .method = method.method,
                .setting = method_text(method),
                .task = sample.task,
                .index = sample.index,
                .length = sample.length,
                .depth = sample.depth,
                .prediction = {},
                .references = sample.references,
                .error = {},
                .more = sample.more};
        state_.method = method.method;
        state_.sample = sample.id;
        try {
            fill_in(row, sample, method, work);
        } catch (const Error& error) {
            if (error.kind() == ErrorKind::cancelled) throw;
            row.error = error.what();
        } catch (const std::bad_alloc&) {
            row.error = "not enough memory";
        }
        return row;
    }

    void fill_in(Row& row, const Sample& sample, const MethodParams& method, double work) {
        const Prompt prompt =
            cut_prompt(model_, sample.message, sample.chat, max_prompt(method, sample), params_.truncation);
        row.n_prompt = int(prompt.tokens.size());
        row.n_truncated = prompt.n_truncated;
        const ProgressCallback on_progress = [&](const PrefillProgress& reading) {
            RunProgress now = state_;
            if (reading.rows_total > 0) now.work_done += work * double(reading.rows_done) / double(reading.rows_total);
            return progress_(now);
        };
        evaluation_.ask(sample, {model_, method, params_.session, prompt, on_progress}, row);
    }

    int max_prompt(const MethodParams& method, const Sample& sample) const {
        int most = params_.session.n_ctx - sample.n_predict;
        if (params_.max_prompt > 0) most = std::min(most, params_.max_prompt);
        const bool limited = method.method == "h2o" || method.method == "pyramidinfer";
        if (params_.truncation == Truncation::reference && limited) most = std::min(most, reference_limit);
        return most;
    }

    const Model& model_;
    const Measurement& evaluation_;
    const std::vector<MethodParams>& settings_;
    const RunParams& params_;
    const OnProgress& progress_;
    RunProgress state_;
};

}  // namespace

void run_evaluation(const Model& model, const Measurement& evaluation, const std::vector<MethodParams>& settings,
                    const std::set<std::string>& done, const RunParams& params,
                    const std::function<void(const Row&)>& keep, const OnProgress& progress) {
    Run(model, evaluation, settings, params, progress).ask_all(done, keep);
}

}  // namespace fastkv::eval
