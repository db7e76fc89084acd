#include "tune/search.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace fastkv::tune {

namespace {

// Settings that a round leaves.
int survivors(int n_settings, const SearchPlan& plan) {
    return std::min(n_settings, std::max(plan.n_finalists, (n_settings + 1) / 2));
}

class Search {
  public:
    Search(int n_settings, const SearchPlan& plan, const IsRight& is_right, const OnRound& on_round)
        : plan_(plan), is_right_(is_right), on_round_(on_round), left_(size_t(n_settings)) {
        std::iota(left_.begin(), left_.end(), 0);
        result_.tallies.resize(left_.size());
        result_.confirmed.resize(left_.size());
    }

    SearchResult run() {
        for (int first = 0, last = plan_.first_round; first < plan_.n_prompts;) {
            last = std::min(last, plan_.n_prompts);
            if (on_round_) on_round_(int(left_.size()), last - first, false);
            for (int prompt = first; prompt < last; ++prompt) {
                for (const int setting : left_) ask(result_.tallies, setting, prompt);
            }
            halve();
            first = last;
            last *= 2;
        }
        std::sort(left_.begin(), left_.end());
        for (const int setting : left_) {
            if (!eval::within_noise(result_.tallies[size_t(setting)]) || !confirm(setting)) continue;
            result_.winner = setting;
            break;
        }
        return std::move(result_);
    }

  private:
    void ask(std::vector<eval::Tally>& tallies, int setting, int prompt) {
        const auto [known, is_new] = full_.try_emplace(prompt, false);
        if (is_new) known->second = is_right_(full_kv, prompt);
        tallies[size_t(setting)].add(known->second, is_right_(setting, prompt));
    }

    void halve() {
        std::sort(left_.begin(), left_.end(), [&](int a, int b) {
            const int of_a = result_.tallies[size_t(a)].deficit(), of_b = result_.tallies[size_t(b)].deficit();
            return of_a != of_b ? of_a < of_b : a < b;
        });
        left_.resize(size_t(survivors(int(left_.size()), plan_)));
    }

    // Looks after 8, 16, 32, ... prompts, so that a setting that fails clearly costs little.
    bool confirm(int setting) {
        if (on_round_) on_round_(1, plan_.n_confirm, true);
        eval::Tally& tally = result_.confirmed[size_t(setting)];
        for (int look = 8; tally.asked < plan_.n_confirm; look *= 2) {
            while (tally.asked < std::min(look, plan_.n_confirm)) {
                ask(result_.confirmed, setting, plan_.n_prompts + tally.asked);
            }
            if (!eval::within_noise(tally)) return false;
        }
        return tally.deficit() <= plan_.tolerance * tally.asked;
    }

    SearchPlan plan_;
    const IsRight& is_right_;
    const OnRound& on_round_;
    std::vector<int> left_;     // settings that are still in, in any order
    std::map<int, bool> full_;  // FullKV's answers
    SearchResult result_;
};

}  // namespace

SearchResult search(int n_settings, const SearchPlan& plan, const IsRight& is_right, const OnRound& on_round) {
    return Search(n_settings, plan, is_right, on_round).run();
}

int planned_questions(int n_settings, const SearchPlan& plan) {
    int questions = plan.n_confirm;
    for (int first = 0, last = plan.first_round; first < plan.n_prompts; last *= 2) {
        last = std::min(last, plan.n_prompts);
        questions += n_settings * (last - first);
        n_settings = survivors(n_settings, plan);
        first = last;
    }
    return questions;
}

}  // namespace fastkv::tune
