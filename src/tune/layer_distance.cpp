#include "tune/layer_distance.h"

#include <algorithm>
#include <numeric>

namespace fastkv::tune {

namespace {

double squared_distance(const std::vector<float>& a, const std::vector<float>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
    return sum;
}

}  // namespace

std::vector<LayerDistance> layer_distances(const std::vector<int>& layers, int n_prompts, const MethodParams& method,
                                           const HiddenOf& hidden_of) {
    std::vector<LayerDistance> distances;
    for (const int layer : layers) distances.push_back({.layer = layer});
    double length = 0;
    for (int prompt = 0; prompt < n_prompts; ++prompt) {
        const std::vector<float> full = hidden_of(prompt, {.method = "fullkv"});
        length += squared_distance(full, std::vector<float>(full.size())) / n_prompts;
        for (LayerDistance& distance : distances) {
            MethodParams with = method;
            with.tsp_layer = distance.layer;
            distance.squared += squared_distance(full, hidden_of(prompt, with)) / n_prompts;
        }
    }
    for (LayerDistance& distance : distances) distance.relative = length > 0 ? distance.squared / length : 0;
    return distances;
}

std::vector<int> nearest_layers(const std::vector<LayerDistance>& distances) {
    std::vector<LayerDistance> sorted = distances;
    std::stable_sort(sorted.begin(), sorted.end(), [](auto& a, auto& b) { return a.squared < b.squared; });
    std::vector<int> layers;
    for (const LayerDistance& distance : sorted) layers.push_back(distance.layer);
    return layers;
}

}  // namespace fastkv::tune
