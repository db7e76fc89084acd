// Which settings answer as well as FullKV, found without asking all of them everything.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "eval/statistics.h"

namespace fastkv::tune {

struct SearchPlan {
    int first_round = 4;      ///< prompts that every setting is asked
    int n_prompts = 32;       ///< that the finalists are asked, the first round's included
    int n_finalists = 4;      ///< settings that are not halved any more
    int n_confirm = 32;       ///< fresh prompts that the choice must hold on
    double tolerance = 0.05;  ///< share of these that it may miss more than FullKV, noise or not
};

/// Whether setting `setting` answers prompt `prompt`; setting full_kv is FullKV. Each pair is asked for once.
using IsRight = std::function<bool(int setting, int prompt)>;
constexpr int full_kv = -1;

/// Called when a round of questions begins.
using OnRound = std::function<void(int n_settings, int n_prompts, bool confirms)>;

struct SearchResult {
    std::vector<eval::Tally> tallies;    ///< [n_settings] in the rounds
    std::vector<eval::Tally> confirmed;  ///< [n_settings] on the fresh prompts; asked == 0: not tried
    std::optional<int> winner;
};

/// Settings are numbered from the cheapest, 0. Successive halving (Jamieson and Talwalkar 2016): every round asks the
/// remaining settings twice as many prompts as the last, then keeps the better half, those with the smaller deficit
/// against FullKV and of equal ones the cheaper. Of the finalists within the noise of FullKV (within_noise()) the
/// cheapest is asked fresh prompts, and wins where it is within the noise and the tolerance on those alone: the best of
/// many looks better than it is on the prompts that it was chosen by. Else the next cheapest is.
SearchResult search(int n_settings, const SearchPlan& plan, const IsRight& is_right, const OnRound& on_round = {});

/// Questions that the rounds will ask of settings, confirmation of one included.
int planned_questions(int n_settings, const SearchPlan& plan);

}  // namespace fastkv::tune
