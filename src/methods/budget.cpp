#include "methods/budget.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "methods/params_check.h"

namespace fastkv {

void resolve_budget(MethodParams& resolved) {
    if (resolved.budget) {
        refuse_unused(resolved.retain_rate, "--retain-rate", "with --budget, which counts tokens: give one of the two");
        checked_at_least(*resolved.budget, 1, "--budget");
    } else {
        resolved.retain_rate = checked_rate(resolved.retain_rate.value_or(0.1), "--retain-rate");
    }
}

int rate_or_budget(const MethodParams& params, int n_rows) {
    return params.budget ? *params.budget : truncated(n_rows, *params.retain_rate);
}

// ---- parameters ----------------------------------------------------------------------------------------------

void resolve_window(MethodParams& resolved) {
    resolved.window = checked_at_least(resolved.window.value_or(8), 1, "--window");
}

void resolve_scoring(MethodParams& resolved) {
    resolved.score = resolved.score.value_or(ScoreBy::window);
    const bool expected = *resolved.score == ScoreBy::expected;
    resolved.kernel = resolved.kernel.value_or(expected ? MethodParams::kernel_auto : 7);
    if (*resolved.kernel != MethodParams::kernel_auto) {
        checked_at_least(*resolved.kernel, 1, "--kernel");
        if (*resolved.kernel % 2 == 0) {
            refuse("--kernel " + std::to_string(*resolved.kernel) + " is even: it needs a middle, so an odd number");
        }
    }
    resolved.pooling = resolved.pooling.value_or(Pooling::max);
    if (expected) {
        resolved.sinks = checked_at_least(resolved.sinks.value_or(4), 0, "--sinks");
    } else {
        refuse_unused(resolved.sinks, "--sinks", "with --score window");
    }
}

namespace {

// The paper's choices by its eq. 3 are layers 15 of 32, 17 of 36 and 19 of 40, counted from 0: always the last layer
// of the lower half, and so the same relative depth for every other model.
int default_tsp_layer(int n_layer) { return std::max(0, n_layer / 2 - 1); }

int resolve_tsp_layer(int layer, const HyperParams& hparams) {
    if (layer == TspLayer::off) return layer;
    if (layer == TspLayer::model_default) return default_tsp_layer(hparams.n_layer);
    return checked_layer(layer, hparams.n_layer, "--tsp-layer", ", or off");
}

// Rows that go on whatever the scores say.
int protected_rows(const MethodParams& params) { return params.window.value_or(0) + params.sinks.value_or(0); }

// What a count of tokens includes: "--window 8, which it includes".
std::string protected_text(const MethodParams& params) {
    const std::string sinks = params.sinks ? " and --sinks " + std::to_string(*params.sinks) : "";
    return "--window " + std::to_string(*params.window) + sinks + ", which it includes";
}

// Shares of the prompt. More retained than propagated (r > rho) cannot be had past the TSP layer.
void resolve_tsp_rate(MethodParams& resolved) {
    refuse_unused(resolved.tsp_len, "--tsp-len", "without --budget; --tsp-rate sets the share that goes on");
    const double retain_rate = *resolved.retain_rate;
    const double tsp_rate = checked_rate(resolved.tsp_rate.value_or(std::max(0.2, retain_rate)), "--tsp-rate");
    if (retain_rate > tsp_rate) {
        refuse("--retain-rate " + number_text(retain_rate) + " is above --tsp-rate " + number_text(tsp_rate) +
               ": a layer cannot keep more tokens than reach it");
    }
    resolved.tsp_rate = tsp_rate;
}

void resolve_tsp_len(MethodParams& resolved) {
    refuse_unused(resolved.tsp_rate, "--tsp-rate", "with --budget, which counts tokens: use --tsp-len");
    const int tsp_len = checked_at_least(resolved.tsp_len.value_or(2048), 1, "--tsp-len");
    if (tsp_len <= protected_rows(resolved)) {
        refuse("--tsp-len " + std::to_string(tsp_len) + " must be above " + protected_text(resolved));
    }
    resolved.tsp_len = tsp_len;
}

void resolve_tsp_score_layers(MethodParams& resolved) {
    const int n_layer = checked_at_least(resolved.tsp_score_layers.value_or(1), 1, "--tsp-score-layers");
    const int most = *resolved.tsp_layer + 1;
    if (n_layer > most) {
        refuse("--tsp-score-layers " + std::to_string(n_layer) + " reaches below layer 0: at most " +
               std::to_string(most) + " with --tsp-layer " + std::to_string(*resolved.tsp_layer));
    }
    resolved.tsp_score_layers = n_layer;
}

void resolve_propagation(MethodParams& resolved, const HyperParams& hparams, int tsp_layer) {
    const std::string off = resolved.tsp_layer ? "with --tsp-layer off" : "without --tsp-layer";
    resolved.tsp_layer = resolve_tsp_layer(resolved.tsp_layer.value_or(tsp_layer), hparams);
    if (*resolved.tsp_layer == TspLayer::off) {
        refuse_unused(resolved.tsp_rate, "--tsp-rate", off);
        refuse_unused(resolved.tsp_len, "--tsp-len", off);
        refuse_unused(resolved.tsp_score_layers, "--tsp-score-layers", off);
        return;
    }
    if (resolved.budget) {
        resolve_tsp_len(resolved);
    } else {
        resolve_tsp_rate(resolved);
    }
    resolve_tsp_score_layers(resolved);
}

}  // namespace

void resolve_sharing(MethodParams& resolved, const HyperParams& hparams, int tsp_layer) {
    resolve_budget(resolved);
    if (resolved.budget && *resolved.budget < protected_rows(resolved)) {
        refuse("--budget " + std::to_string(*resolved.budget) + " is below " + protected_text(resolved));
    }
    if (resolved.budget) {
        refuse_unused(resolved.min_budget, "--min-budget", "with --budget, which counts tokens itself");
    } else {
        resolved.min_budget = checked_at_least(resolved.min_budget.value_or(0), 0, "--min-budget");
    }
    resolve_propagation(resolved, hparams, tsp_layer);
    resolved.head_floor = checked_share(resolved.head_floor.value_or(1), "--head-floor");
    resolved.layer_budget = resolved.layer_budget.value_or(LayerBudget::even);
}

// ---- plans ----------------------------------------------------------------------------------------------------

ScorePlan window_score(const MethodParams& params) {
    const bool expected = *params.score == ScoreBy::expected;
    ScorePlan score{.tail = *params.window, .kernel = *params.kernel, .pooling = *params.pooling};
    if (*params.kernel == MethodParams::kernel_auto) {
        // A question looks at the words before a fact, and 21 tokens reach the fact from there; where none is known
        // yet, fixed neighbours only blur (docs/methods.md).
        score.kernel = expected ? 1 : 21;
        score.whole_spans = true;
    }
    if (expected) {
        score.kind = ScoreKind::expected;
        score.sinks = *params.sinks;
    } else {
        score.n_query = *params.window;
    }
    return score;
}

namespace {

// Tokens that go on past the TSP layer; all of them where there is nothing to choose. In constant mode a prompt
// below the budget is left alone altogether.
int propagated_rows(const MethodParams& params, int n_prompt) {
    if (*params.tsp_layer == TspLayer::off) return n_prompt;
    if (params.budget && n_prompt < *params.budget) return n_prompt;
    const int count =
        params.budget ? *params.tsp_len : std::max(truncated(n_prompt, *params.tsp_rate), *params.min_budget);
    return count > protected_rows(params) ? std::min(count, n_prompt) : n_prompt;
}

// The same in every layer. Past the TSP layer the same share of the prompt is a larger share of the rows that are
// left, r / rho; where a short prompt was not reduced, it stays r.
int even_budget(const MethodParams& params, int n_prompt, int n_rows) {
    if (params.budget) return *params.budget;
    const bool reduced = n_rows != n_prompt;
    const double rate = reduced ? *params.retain_rate / *params.tsp_rate : *params.retain_rate;
    return std::max(truncated(n_rows, rate), *params.min_budget);
}

// Divides `total` in proportion to `weights`, none above its cap: what a full one cannot take goes to the others.
// The shares are whole and add up to `total`, which is not above the sum of the caps.
std::vector<int> share_out(int total, const std::vector<double>& weights, const std::vector<int>& caps) {
    std::vector<int> shares(weights.size());
    std::vector<bool> full(weights.size());
    double weight = std::accumulate(weights.begin(), weights.end(), 0.0);  // of those that are not full
    for (bool found = true; found;) {
        found = false;
        for (size_t i = 0; i < shares.size(); ++i) {
            if (full[i] || total * weights[i] < caps[i] * weight) continue;
            full[i] = found = true;
            shares[i] = caps[i];
            total -= caps[i];
            weight -= weights[i];
        }
    }
    double passed = 0;  // weight
    int given = 0;
    for (size_t i = 0; i < shares.size(); ++i) {
        if (full[i]) continue;
        passed += weights[i];
        shares[i] = int(std::lround(total * passed / weight)) - given;
        given += shares[i];
    }
    return shares;
}

// What a layer caches above what is protected, in proportion to the others. PyramidKV (arXiv 2406.02069, with beta =
// 20) falls in a line from 39 to 1 twentieths of the mean; `upper` has one step, past the TSP layer.
double layer_weight(const MethodParams& params, int layer, int n_layer) {
    if (n_layer == 1) return 1;
    if (*params.layer_budget == LayerBudget::pyramid) return 1.95 - 1.9 * layer / (n_layer - 1);
    const bool propagates = *params.tsp_layer != TspLayer::off;
    return layer > (propagates ? *params.tsp_layer : default_tsp_layer(n_layer)) ? 1 : 0.05;
}

// The layers' sum is that of even budgets.
int shaped_budget(const MethodParams& params, const PlanPoint& at, int protected_rows) {
    std::vector<double> weights;
    std::vector<int> caps;
    int total = 0;
    for (int layer = 0; layer < at.n_layer; ++layer) {
        const bool reduced = *params.tsp_layer != TspLayer::off && layer > *params.tsp_layer;
        const int n_rows = reduced ? propagated_rows(params, at.n_prompt) : at.n_prompt;
        const int even = std::min(even_budget(params, at.n_prompt, n_rows), n_rows);
        const bool takes_part = even >= protected_rows;
        weights.push_back(layer_weight(params, layer, at.n_layer));
        caps.push_back(takes_part ? n_rows - protected_rows : 0);
        total += takes_part ? even - protected_rows : 0;
    }
    return protected_rows + share_out(total, weights, caps)[size_t(at.layer)];
}

}  // namespace

int layer_budget(const MethodParams& params, const PlanPoint& at, int protected_rows) {
    const int even = even_budget(params, at.n_prompt, at.n_rows);
    const bool reshaped = *params.layer_budget != LayerBudget::even && std::min(even, at.n_rows) >= protected_rows;
    return reshaped ? shaped_budget(params, at, protected_rows) : even;
}

LayerPlan plan_layer(const MethodParams& params, const PlanPoint& at, const ScorePlan& score, KeepPlan keep) {
    LayerPlan plan;
    // A budget that does not hold what is protected (prompts of a few dozen tokens) keeps all: they cost nothing.
    if (keep.count >= keep.sinks + keep.tail && keep.count < at.n_rows) {
        keep.floor = params.head_floor.value_or(1);
        plan.keep = keep;
    }
    const int n_passed = propagated_rows(params, at.n_prompt);
    const int below = *params.tsp_layer - at.layer;  // layers from here to the TSP layer
    if (n_passed < at.n_prompt && below == 0) {
        plan.propagate = PropagatePlan{
            .count = n_passed, .sinks = keep.sinks, .tail = *params.window, .n_layer = *params.tsp_score_layers};
    }
    const bool scores_propagation = n_passed < at.n_prompt && below >= 0 && below < *params.tsp_score_layers;
    if (plan.keep || scores_propagation) plan.score = score;
    return plan;
}

}  // namespace fastkv
