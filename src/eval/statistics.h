// How sure a share of right answers is.
#pragma once

#include <vector>

namespace fastkv::eval {

/// An interval of 95 %.
struct Interval {
    double low = 0, high = 1;
};

/// Of a share, `right` of `asked` (Wilson 1927). All of [0, 1] where nothing was asked. `right` may be a sum of scores
/// in [0, 1] that are not all 0 or 1: those scatter less, so the interval is wide enough for them.
Interval wilson(double right, double asked);

/// A mean of scores in [0, 1].
struct Mean {
    int n = 0;
    double mean = 0;
    Interval interval;
};

Mean mean_of(const std::vector<double>& scores);

/// Of any numbers, with the normal interval: 1.96 standard errors to either side. A single number is its own interval.
Mean mean_of_values(const std::vector<double>& values);

/// The mean of several independent means, each weighing the same, from their intervals.
Mean mean_from_intervals(const std::vector<Mean>& means);

/// The mean of several means, each weighing the same however many scores it is of, such as the average over tasks. Its
/// interval is Wilson's for as many scores as have the same standard error: (number of means)^2 / sum of 1 / n.
Mean mean_of_means(const std::vector<Mean>& means);

/// A setting beside FullKV, on the same prompts.
struct Tally {
    int asked = 0;
    int right = 0;
    int lost = 0;    ///< prompts that FullKV answered and the setting did not
    int gained = 0;  ///< the reverse

    void add(bool full_right, bool own_right) {
        ++asked;
        right += own_right ? 1 : 0;
        lost += full_right && !own_right ? 1 : 0;
        gained += own_right && !full_right ? 1 : 0;
    }
    double share() const { return asked > 0 ? double(right) / asked : 0; }
    /// Answers fewer than FullKV's; none where it has more.
    int deficit() const { return lost > gained ? lost - gained : 0; }
};

/// Of the difference of the two shares, setting minus FullKV: both answered the same prompts, so only those count where
/// they differ (Bonett and Price 2012, adjusted Wald).
Interval paired_difference(const Tally& tally);

/// The same for scores that are not all right or wrong, and for the mean over groups that weigh alike however many
/// differences they have: as if it were so many single ones as have the same standard error. Of one group of
/// differences of -1, 0 and 1 it is paired_difference()'s interval.
Mean mean_difference(const std::vector<std::vector<double>>& groups);

/// True where what FullKV answers more could be chance: lost - gained <= 1.645 sqrt(lost + gained), McNemar's test at
/// 5 %, one-sided. Two prompts lost and none gained pass, three do not.
bool within_noise(const Tally& tally);

}  // namespace fastkv::eval
