#include "bench/comparison.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <utility>

#include "bench/machine.h"
#include "bench/statistics.h"

namespace fastkv::bench {

namespace {

template <class Value>
std::vector<double> values_of(const std::vector<Sample>& samples, const Value& value) {
    std::vector<double> values;
    for (const Sample& sample : samples) values.push_back(value(sample));
    return values;
}

class Comparison {
  public:
    Comparison(const ComparisonParams& params, std::vector<Row>& rows, const ComparisonWatch& watch)
        : params_(params), rows_(rows), watch_(watch), whole_seconds_(rows.size()) {}

    // Throws Error(cancelled) where `watch` ends it.
    void run() {
        int most = 0;
        for (const Row& row : rows_) most = std::max(most, row.repetitions);
        for (progress_.repetition = 0; progress_.repetition < most; ++progress_.repetition) {
            for (Row& row : rows_) {
                if (!row.error.empty() || progress_.repetition >= row.repetitions) continue;
                load(row.n_threads);
                measure_row(row);
            }
        }
    }

  private:
    void load(int n_threads) {
        if (model_ && model_threads_ == n_threads) return;
        model_.reset();  // before the next: one copy at a time
        ModelParams params = params_.model;
        params.n_threads = n_threads;
        model_ = Model::load(params_.model_path, params);
        model_threads_ = n_threads;
        if (params_.warmup) warm_up();
    }

    // First runs are slow: pages of the weights come from disk, oneDNN makes its kernels, threads start.
    void warm_up() {
        std::map<std::string, Row> shortest;  // by the method's name
        for (const Row& row : rows_) {
            if (row.n_threads != model_threads_) continue;
            const auto [found, is_new] = shortest.try_emplace(row.method.name, row);
            if (!is_new && row.test.n_tokens() < found->second.test.n_tokens()) found->second = row;
        }
        const int repetition = std::exchange(progress_.repetition, -1);
        for (auto& [name, row] : shortest) {
            row.test.n_gen = std::min(row.test.n_gen, 1);
            try {
                measure_once(row);
            } catch (const Error& error) {
                if (error.kind() == ErrorKind::cancelled) throw;  // any other the row itself will meet
            }
        }
        progress_.repetition = repetition;
    }

    void measure_row(Row& row) {
        if (row.test_time.empty()) row.test_time = utc_time();
        const auto start = std::chrono::steady_clock::now();
        try {
            row.samples.push_back(measure_once(row));
        } catch (const Error& error) {
            if (error.kind() == ErrorKind::cancelled) throw;
            row.error = error.what();
        }
        const auto index = size_t(&row - rows_.data());
        whole_seconds_[index] = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }

    Sample measure_once(const Row& row) {
        progress_.row = &row;
        progress_.seconds_left = seconds_left();
        const auto keep_going = [&] { return watch_(progress_); };
        if (!keep_going()) throw Error(ErrorKind::cancelled, "stopped between two runs");
        return measure(*model_, row.method.params, row.test, params_.tokens, params_.session, keep_going);
    }

    // From the rows' last runs.
    std::optional<double> seconds_left() const {
        double seconds = 0;
        for (size_t i = 0; i < rows_.size(); ++i) {
            if (!rows_[i].error.empty()) continue;
            if (!whole_seconds_[i]) return {};
            seconds += *whole_seconds_[i] * double(rows_[i].repetitions - int(rows_[i].samples.size()));
        }
        return seconds;
    }

    const ComparisonParams& params_;
    std::vector<Row>& rows_;
    const ComparisonWatch& watch_;
    std::optional<Model> model_;
    int model_threads_ = 0;
    ComparisonProgress progress_;
    std::vector<std::optional<double>> whole_seconds_;  // [rows] of the last run, what is not measured included
};

}  // namespace

std::vector<double> Row::prefill_seconds() const {
    return values_of(samples, [](const Sample& sample) { return sample.prefill_seconds; });
}

std::vector<double> Row::decode_seconds() const {
    return values_of(samples, [](const Sample& sample) { return sample.decode_seconds; });
}

std::vector<double> Row::end_to_end_seconds() const {
    return values_of(samples, [](const Sample& sample) { return sample.prefill_seconds + sample.decode_seconds; });
}

uint64_t Row::peak_rss_bytes() const {
    uint64_t peak = 0;
    for (const Sample& sample : samples) peak = std::max(peak, sample.peak_rss_bytes);
    return peak;
}

bool run_comparison(const ComparisonParams& params, std::vector<Row>& rows, const ComparisonWatch& watch) {
    try {
        Comparison(params, rows, watch).run();
    } catch (const Error& error) {
        if (error.kind() != ErrorKind::cancelled) throw;
        return false;
    }
    return true;
}

}  // namespace fastkv::bench
