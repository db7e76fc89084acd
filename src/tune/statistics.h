// How sure a share of right answers is.
#pragma once

namespace fastkv::tune {

/// An interval of 95 %.
struct Interval {
    double low = 0, high = 1;
};

/// Of a share, `right` of `asked` (Wilson 1927). All of [0, 1] where nothing was asked.
Interval wilson(int right, int asked);

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

/// True where what FullKV answers more could be chance: lost - gained <= 1.645 sqrt(lost + gained), McNemar's test at
/// 5 %, one-sided. Two prompts lost and none gained pass, three do not.
bool within_noise(const Tally& tally);

}  // namespace fastkv::tune
