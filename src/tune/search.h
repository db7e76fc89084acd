// Which settings answer as well as FullKV, found without asking all of them everything.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "tune/statistics.h"

namespace fastkv::tune {

struct SearchPlan {
    int first_round = 4;  ///< prompts that every setting is asked
    int n_prompts = 32;   ///< that the finalists are asked, the first round's included
    int n_finalists = 4;  ///< settings that are not halved any more
    int n_confirm = 32;   ///< fresh prompts that the choice must hold on
};

/// Whether setting `setting` answers prompt `prompt`; setting full_kv is FullKV. Each pair is asked for once.
using IsRight = std::function<bool(int setting, int prompt)>;
constexpr int full_kv = -1;

/// Called when a round of questions begins: what it is, and how many questions at most are left in all.
using OnRound = std::function<void(int n_settings, int n_prompts, bool confirms)>;

struct SearchResult {
    std::vector<Tally> tallies;    ///< [n_settings] in the rounds
    std::vector<Tally> confirmed;  ///< [n_settings] on the fresh prompts; asked == 0: not tried
    std::optional<int> winner;
};

/// Settings are numbered from the cheapest, 0. Successive halving (Jamieson and Talwalkar 2016): every round asks the
/// remaining settings twice as many prompts as the last, then keeps the better half, those with the smaller deficit
/// against FullKV and of equal ones the cheaper. Of the finalists within the noise of FullKV (within_noise()) the
/// cheapest is asked fresh prompts, 2 to the power of n at a time, and wins where it stays within the noise on those
/// alone: the best of many looks better than it is on the prompts that it was chosen by. Else the next cheapest is.
SearchResult search(int n_settings, const SearchPlan& plan, const IsRight& is_right, const OnRound& on_round = {});

/// Questions that the rounds will ask of settings, confirmation of one included.
int planned_questions(int n_settings, const SearchPlan& plan);

}  // namespace fastkv::tune
