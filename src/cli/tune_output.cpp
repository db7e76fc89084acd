#include "cli/tune_output.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/text.h"
#include "cli/tune_bench.h"
#include "text/json.h"

namespace fastkv::cli {

namespace {

using Json = nlohmann::ordered_json;

std::string setting_text(const tune::Setting& setting) { return method_text(setting.method); }

void print_distances(const Found& found) {
    std::printf("## Distance of the last hidden state from FullKV's (eq. 3)\n\n");
    std::printf("| TSP layer | mean squared distance | relative |\n|---:|---:|---:|\n");
    for (const tune::LayerDistance& at : found.distances) {
        std::printf("| %d | %.4g | %.4f |\n", at.layer, at.squared, at.relative);
    }
}

std::string changes_text(const eval::Tally& tally) {
    if (tally.asked == 0) return " | ";
    return share_text(tally.right, tally.asked) + format(" | %d, %d", tally.lost, tally.gained);
}

void print_settings(const Found& found) {
    std::printf("\n## Settings, the cheapest first (%zu of %d within the limits)\n\n", found.settings.size(),
                found.n_possible);
    std::printf("FullKV: %s\n\n", share_text(found.full.right, found.full.asked).c_str());
    std::printf("| setting | work | cache | right | lost, gained | right, fresh prompts | lost, gained |\n");
    std::printf("|---|---:|---:|---|---|---|---|\n");
    for (size_t i = 0; i < found.settings.size(); ++i) {
        const tune::Setting& setting = found.settings[i];
        const bool won = found.result.winner && size_t(*found.result.winner) == i;
        std::printf("| %s%s | %.1f %% | %.1f %% | %s | %s |\n", won ? "**chosen:** " : "",
                    setting_text(setting).c_str(), 100 * setting.cost.work, 100 * setting.cost.cache,
                    changes_text(found.result.tallies[i]).c_str(), changes_text(found.result.confirmed[i]).c_str());
    }
}

void print_answers_by_layer(const Found& found) {
    if (found.answers.empty()) return;
    std::printf("\n## Answers by layer, the rest as chosen\n\n");
    std::printf("FullKV: %s\n\n", share_text(found.curve_full.right, found.curve_full.asked).c_str());
    std::printf("| TSP layer | right | lost, gained |\n|---:|---|---|\n");
    for (const tune::LayerAnswers& at : found.answers) {
        std::printf("| %d | %s |\n", at.layer, changes_text(at.tally).c_str());
    }
}

std::string choice_text(const Found& found) {
    if (!found.result.winner) {
        return "No setting within the limits answers as FullKV does: raise --max-work or --max-cache, or --settings to "
               "try more.";
    }
    const auto winner = size_t(*found.result.winner);
    const tune::Setting& setting = found.settings[winner];
    const eval::Tally& tally = found.result.confirmed[winner];
    return format(
        "Chosen: %s: %.1f %% of FullKV's work, %.1f %% of its cache; %s of fresh prompts right, %d lost and %d "
        "gained against FullKV.",
        setting_text(setting).c_str(), 100 * setting.cost.work, 100 * setting.cost.cache,
        share_text(tally.right, tally.asked).c_str(), tally.lost, tally.gained);
}

void print_markdown(const Found& found, const TuneOptions& options, const HyperParams& hparams) {
    std::printf("# FastKV for %s\n\nText: %s.\n\n", hparams.name.c_str(), tune_text_name(options).c_str());
    print_distances(found);
    print_settings(found);
    print_answers_by_layer(found);
    std::printf("\n%s\n", choice_text(found).c_str());
    if (!found.stored.empty()) std::printf("Stored in %s; later runs use it and say so.\n", found.stored.c_str());
}

Json tally_json(const eval::Tally& tally) {
    const eval::Interval share = eval::wilson(tally.right, tally.asked);
    return {{"asked", tally.asked}, {"right", tally.right},   {"interval", {share.low, share.high}},
            {"lost", tally.lost},   {"gained", tally.gained}, {"within_noise", eval::within_noise(tally)}};
}

void print_json(const Found& found, const TuneOptions& options, const HyperParams& hparams) {
    Json json = {{"model", hparams.name}, {"text", tune_text_name(options)}, {"lengths", options.lengths},
                 {"seed", options.seed},  {"full", tally_json(found.full)},  {"n_possible", found.n_possible}};
    json["distances"] = Json::array();
    for (const auto& at : found.distances) {
        json["distances"].push_back({{"layer", at.layer}, {"squared", at.squared}, {"relative", at.relative}});
    }
    json["settings"] = Json::array();
    for (size_t i = 0; i < found.settings.size(); ++i) {
        const tune::Setting& setting = found.settings[i];
        Json row = {{"setting", setting_text(setting)},
                    {"work", setting.cost.work},
                    {"cache", setting.cost.cache},
                    {"rounds", tally_json(found.result.tallies[i])}};
        if (found.result.confirmed[i].asked > 0) row["confirmed"] = tally_json(found.result.confirmed[i]);
        json["settings"].push_back(std::move(row));
    }
    json["answers_by_layer"] = Json::array();
    for (const auto& at : found.answers) {
        json["answers_by_layer"].push_back({{"layer", at.layer}, {"answers", tally_json(at.tally)}});
    }
    if (found.result.winner) json["chosen"] = setting_text(found.settings[size_t(*found.result.winner)]);
    if (!found.stored.empty()) json["stored"] = found.stored;
    std::printf("%s\n", text::json_text(json, 2).c_str());
}

}  // namespace

void print_found(const Found& found, const TuneOptions& options, const HyperParams& hparams) {
    if (options.output == "json") {
        print_json(found, options, hparams);
    } else {
        print_markdown(found, options, hparams);
    }
}

std::string found_picture(const Found& found, const HyperParams& hparams) {
    tune::Curves curves;
    curves.title = "FastKV: the TSP layer for " + hparams.name;
    curves.n_layer = hparams.n_layer;
    curves.distances = found.distances;
    curves.answers = found.answers;
    curves.full = found.curve_full;
    if (found.result.winner) {
        const MethodParams& chosen = found.settings[size_t(*found.result.winner)].method;
        curves.chosen = *resolve(chosen, hparams).tsp_layer;
    }
    return tune::plot_svg(curves);
}

}  // namespace fastkv::cli
