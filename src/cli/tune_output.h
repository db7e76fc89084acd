// What fastkv tune found, as people and programs read it.
#pragma once

#include <string>
#include <vector>

#include "cli/tune.h"
#include "tune/layer_distance.h"
#include "tune/plot.h"
#include "tune/search.h"
#include "tune/settings.h"

namespace fastkv::cli {

/// What a tuning found.
struct Found {
    std::vector<tune::LayerDistance> distances;  ///< by layer
    std::vector<tune::Setting> settings;         ///< those tried, the cheapest first
    int n_possible = 0;                          ///< settings within the limits
    tune::SearchResult result;
    eval::Tally full;                         ///< of FullKV on the prompts of the rounds
    std::vector<tune::LayerAnswers> answers;  ///< of the choice with other layers
    eval::Tally curve_full;                   ///< of FullKV on the prompts of `answers`
    std::string stored;                       ///< the path; "": not stored
};

/// Prints it on stdout, as -o says.
void print_found(const Found& found, const TuneOptions& options, const HyperParams& hparams);

/// Distances and answers over the layers, as SVG.
std::string found_picture(const Found& found, const HyperParams& hparams);

}  // namespace fastkv::cli
