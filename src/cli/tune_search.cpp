// fastkv tune: distances by layer, then settings by their answers, then the choice.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <set>

#include "cli/text.h"
#include "cli/tune_bench.h"
#include "cli/tune_output.h"
#include "cli/whole_file.h"
#include "tune/layer_distance.h"
#include "tune/search.h"
#include "tune/tuned.h"

namespace fastkv::cli {

namespace {

constexpr int distance_prompts = 4;  // eq. 3's calibration set
constexpr int tried_layers = 6;      // the nearest to FullKV by eq. 3
constexpr int curve_prompts = 16;    // per point of the curve of answers
constexpr int curve_points = 12;
constexpr double rounding = 5e-4;  // of shares, which are whole tokens

// What is tried of each parameter that is not given. Values past the paper's own (7, 0.2, 0.1, 1, 8) on both sides.
const std::vector<tune::Dimension> default_dimensions = {
    {"kernel", {"7", "15", "21", "31", "auto"}},
    {"tsp_rate", {"0.05", "0.1", "0.15", "0.2"}},
    {"retain_rate", {"0.03", "0.05", "0.1", "0.118"}},
    {"tsp_score_layers", {"1", "2", "4"}},
    {"window", {"8", "16", "32", "64"}},
};

class Tuning {
  public:
    explicit Tuning(const TuneOptions& options) : options_(options), bench_(options) {
        plan_.n_prompts = plan_.n_confirm = options.n_prompts.value_or(32);
        plan_.first_round = std::min(4, plan_.n_prompts);
        plan_.tolerance = options.tolerance.value_or(plan_.tolerance);
    }

    Found run() {
        list_possible();
        measure_distances();
        choose_settings();
        ask_full_first();
        search();
        if (found_.result.winner) ask_by_layer();
        countdown_.clear();
        return std::move(found_);
    }

    const Bench& bench() const { return bench_; }

  private:
    int n_layer() const { return bench_.model().hparams().n_layer; }

    // Lengths take turns.
    tune::RetrievalPrompt prompt(int index) const {
        const auto n = int(options_.lengths.size());
        return bench_.prompt(options_.lengths[size_t(index % n)], index / n);
    }

    // At the length where it is most.
    tune::Cost cost(const MethodParams& method) const {
        tune::Cost most{0, 0};
        for (const int length : options_.lengths) {
            const tune::Cost cost = bench_.cost(method, length);
            most = {std::max(most.work, cost.work), std::max(most.cache, cost.cache)};
        }
        return most;
    }

    bool is_right(const MethodParams& method, int index) {
        const auto asked = prompt(index);
        const double work = asked.length * (method.method == "fullkv" ? 1 : bench_.cost(method, asked.length).work);
        countdown_.show(stage_ + format(": %d questions asked", n_asked_++));
        const bool right = bench_.ask(asked, method).right;
        countdown_.did(work);
        return right;
    }

    // Where no terminal shows how far it is, a line for each stage does.
    void enter(const std::string& stage) {
        stage_ = stage;
        if (!stderr_is_terminal()) std::fprintf(stderr, "fastkv: %s\n", stage.c_str());
    }

    void begin(const std::string& stage, double expected_work) {
        enter(stage);
        countdown_.forget_expected();
        countdown_.expect(expected_work);
    }

    double mean_length() const {
        double sum = 0;
        for (const int length : options_.lengths) sum += length;
        return sum / double(options_.lengths.size());
    }

    std::vector<int> all_layers() const {
        std::vector<int> layers;
        // After the last layer there is nothing left to save.
        for (int layer = 0; layer + 1 < n_layer(); ++layer) layers.push_back(layer);
        if (layers.empty()) refuse("the model has one layer: there is no layer to choose");
        return layers;
    }

    void measure_distances() {
        const int n = std::min(distance_prompts, plan_.n_prompts);
        begin("eq. 3", n * mean_length() * (1 + 0.55 * (n_layer() - 1)));
        found_.distances =
            tune::layer_distances(all_layers(), n, options_.method.params, [&](int index, const MethodParams& method) {
                const auto asked = prompt(index);
                countdown_.show(method.tsp_layer
                                    ? format("eq. 3: prompt %d of %d, layer %d", index + 1, n, *method.tsp_layer)
                                    : format("eq. 3: prompt %d of %d", index + 1, n));
                auto hidden = bench_.hidden(asked, method);
                countdown_.did(asked.length * (method.method == "fullkv" ? 1 : bench_.cost(method, asked.length).work));
                return hidden;
            });
    }

    // The parameters to vary: those of --try, and of the others the ones that no flag has fixed.
    std::vector<tune::Dimension> dimensions() const {
        std::vector<tune::Dimension> dimensions = options_.tries;
        for (const tune::Dimension& standard : default_dimensions) {
            const bool tried = std::any_of(dimensions.begin(), dimensions.end(),
                                           [&](const auto& d) { return d.first == standard.first; });
            if (!tried && param_text(options_.method.params, standard.first).empty()) dimensions.push_back(standard);
        }
        return dimensions;
    }

    // All settings that keep within the limits: what cannot be is refused before anything is measured.
    void list_possible() {
        std::vector<tune::Dimension> varied = dimensions();
        const bool fixed = options_.method.params.tsp_layer ||
                           std::any_of(varied.begin(), varied.end(), [](auto& d) { return d.first == "tsp_layer"; });
        if (!fixed) {
            tune::Dimension layers{"tsp_layer", {}};
            for (const int layer : all_layers()) layers.second.push_back(std::to_string(layer));
            varied.push_back(layers);
        }
        chooses_layers_ = !fixed;
        possible_ = tune::list_settings(options_.method.params, varied, limits(),
                                        [&](const MethodParams& method) { return cost(method); });
        if (!possible_.empty()) return;
        refuse(format("no setting keeps within --max-work %g and --max-cache %g: raise them", max_work(), max_cache()));
    }

    double max_work() const { return options_.max_work.value_or(0.6); }
    double max_cache() const { return options_.max_cache.value_or(0.1); }
    tune::Limits limits() const { return {max_work() + rounding, max_cache() + rounding}; }

    // Of the layers that the limits allow, the nearest by eq. 3.
    void choose_settings() {
        std::vector<tune::Setting> all = possible_;
        if (chooses_layers_) {
            const auto has = [](int layer) {
                return [layer](const tune::Setting& setting) { return setting.method.tsp_layer == layer; };
            };
            std::vector<int> layers = tune::nearest_layers(found_.distances);
            std::erase_if(layers,
                          [&](int layer) { return std::none_of(possible_.begin(), possible_.end(), has(layer)); });
            layers.resize(std::min(layers.size(), size_t(tried_layers)));
            std::erase_if(all, [&](const tune::Setting& setting) {
                return std::find(layers.begin(), layers.end(), *setting.method.tsp_layer) == layers.end();
            });
        }
        found_.n_possible = int(all.size());
        found_.settings = tune::sample_settings(all, options_.n_settings.value_or(32), options_.seed);
        if (options_.tries.empty()) add_untuned();
    }

    // What runs take as long as nothing is chosen is tried whatever chance says, where the limits allow it.
    void add_untuned() {
        const MethodParams untuned = resolve(options_.method.params, bench_.model().hparams());
        const tune::Setting setting{untuned, cost(untuned)};
        if (tune::allows(limits(), setting.cost)) tune::add_setting(found_.settings, setting, bench_.model().hparams());
    }

    // A model that cannot answer cannot tell settings apart.
    void ask_full_first() {
        double work = 0;
        for (const tune::Setting& setting : found_.settings) work += setting.cost.work;
        work /= double(found_.settings.size());
        const double questions = tune::planned_questions(int(found_.settings.size()), plan_);
        begin("FullKV", mean_length() * (plan_.n_prompts + plan_.n_confirm + questions * work));
        for (int index = 0; index < plan_.n_prompts; ++index) {
            const bool right = is_right({.method = "fullkv"}, index);
            found_.full.add(right, right);
        }
        if (2 * found_.full.right < found_.full.asked) {
            countdown_.clear();
            fail(
                format("the model itself, with FullKV, answers %d of %d prompts: too few to tune by; try a smaller -p "
                       "or another --task",
                       found_.full.right, found_.full.asked));
        }
    }

    void search() {
        const auto ask = [&](int setting, int index) {
            return is_right(setting == tune::full_kv ? MethodParams{.method = "fullkv"}
                                                     : found_.settings[size_t(setting)].method,
                            index);
        };
        const auto on_round = [&](int n_settings, int n_prompts, bool confirms) {
            enter(confirms ? format("%d fresh prompts for the choice", n_prompts)
                           : format("%d settings, %d prompts each", n_settings, n_prompts));
        };
        found_.result = tune::search(int(found_.settings.size()), plan_, ask, on_round);
    }

    // The chosen setting with other layers.
    void ask_by_layer() {
        const MethodParams& chosen = found_.settings[size_t(*found_.result.winner)].method;
        const int n = std::min(curve_prompts, plan_.n_prompts);
        std::set<int> layers = {*resolve(chosen, bench_.model().hparams()).tsp_layer};
        const int step = std::max(1, n_layer() / curve_points);
        for (int layer = step - 1; layer + 1 < n_layer(); layer += step) layers.insert(layer);
        begin("answers by layer", double(layers.size()) * n * mean_length() * 0.5);
        std::vector<bool> full;
        for (int index = 0; index < n; ++index) {
            full.push_back(is_right({.method = "fullkv"}, index));
            found_.curve_full.add(full.back(), full.back());
        }
        for (const int layer : layers) {
            MethodParams method = chosen;
            method.tsp_layer = layer;
            if (method.tsp_score_layers.value_or(1) > layer + 1) continue;
            tune::LayerAnswers answers{layer, {}};
            for (int index = 0; index < n; ++index) answers.tally.add(full[size_t(index)], is_right(method, index));
            found_.answers.push_back(answers);
        }
    }

    const TuneOptions& options_;
    Bench bench_;
    tune::SearchPlan plan_;
    std::vector<tune::Setting> possible_;  // within the limits, the cheapest first
    bool chooses_layers_ = false;          // eq. 3 says which layers are tried
    Countdown countdown_;
    std::string stage_;
    int n_asked_ = 0;
    Found found_;
};

tune::Tuned tuned_from(const TuneOptions& options, const Found& found) {
    const auto winner = size_t(*found.result.winner);
    const tune::Setting& setting = found.settings[winner];
    const eval::Tally& confirmed = found.result.confirmed[winner];
    std::string lengths;
    for (const int length : options.lengths) lengths += (lengths.empty() ? "" : ", ") + std::to_string(length);
    tune::Tuned tuned{setting.method, {}};
    tuned.found = {{"text", tune_text_name(options)},
                   {"lengths", lengths},
                   {"seed", std::to_string(options.seed)},
                   {"work", format("%.1f %% of fullkv", 100 * setting.cost.work)},
                   {"cache", format("%.1f %% of fullkv", 100 * setting.cost.cache)},
                   {"right", share_text(confirmed.right, confirmed.asked)},
                   {"lost", std::to_string(confirmed.lost)},
                   {"gained", std::to_string(confirmed.gained)}};
    return tuned;
}

std::string store(const TuneOptions& options, const Bench& bench, const Found& found) {
    const std::string path = tune::tuned_path(bench.model().hash());
    if (path.empty()) fail("neither XDG_CONFIG_HOME nor HOME is set: there is no place for the choice (--no-store)");
    std::error_code error;
    const auto folder = std::filesystem::path(path).parent_path();
    std::filesystem::create_directories(folder, error);
    if (error) fail(folder.string() + ": cannot make this folder: " + error.message());
    WholeFile(path, "").write(tune::tuned_json(tuned_from(options, found), bench.model().hparams().name));
    return path;
}

}  // namespace

int tune_search(const TuneOptions& options) {
    std::optional<WholeFile> plot;
    if (!options.plot.empty()) plot.emplace(options.plot, "--plot");
    Tuning tuning(options);
    Found found = tuning.run();
    if (found.result.winner && !options.no_store) found.stored = store(options, tuning.bench(), found);
    if (plot) plot->write(found_picture(found, tuning.bench().model().hparams()));
    print_found(found, options, tuning.bench().model().hparams());
    return found.result.winner ? 0 : 1;
}

}  // namespace fastkv::cli
