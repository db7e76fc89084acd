#include "server/layer_report.h"

#include "text/utf8.h"

namespace fastkv::server {

using nlohmann::ordered_json;

namespace {

/// Ascending positions as ranges [first, last]: neighbours are kept together more often than not.
ordered_json ranges_json(const std::vector<int>& positions) {
    ordered_json ranges = ordered_json::array();
    for (size_t first = 0, last = 0; first < positions.size(); first = ++last) {
        while (last + 1 < positions.size() && positions[last + 1] == positions[last] + 1) ++last;
        ranges.push_back({positions[first], positions[last]});
    }
    return ranges;
}

}  // namespace

std::vector<std::string> pieces_of(const Model& model, std::span<const Token> prompt) {
    std::vector<std::string> pieces;
    text::Utf8Stream utf8;
    for (const Token token : prompt) pieces.push_back(utf8.push(model.piece(token, /*special=*/true)));
    if (!pieces.empty()) pieces.back() += utf8.finish();
    return pieces;
}

ordered_json report_json(const PromptReport& report) {
    ordered_json layers = ordered_json::array();
    for (const LayerReport& layer : report.layers) {
        ordered_json kept = ordered_json::array();
        for (const auto& positions : layer.kept) kept.push_back(ranges_json(positions));
        layers.push_back({{"layer", layers.size()},
                          {"rows", layer.rows},
                          {"cached", layer.cached},
                          {"n_head_cached", layer.n_head_cached},
                          {"kept", std::move(kept)},
                          {"propagated", ranges_json(layer.propagated)}});
    }
    return {{"layers", std::move(layers)}, {"pieces", report.pieces}};
}

}  // namespace fastkv::server
