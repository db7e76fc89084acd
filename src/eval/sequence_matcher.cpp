#include "eval/sequence_matcher.h"

#include <cmath>
#include <unordered_map>
#include <vector>

namespace fastkv::eval {

namespace {

constexpr size_t autojunk_length = 200;

/// Where each character of b stands, ascending, without those that are too common.
using Places = std::unordered_map<char32_t, std::vector<size_t>>;

Places places_in(std::u32string_view b) {
    Places places;
    for (size_t j = 0; j < b.size(); ++j) places[b[j]].push_back(j);
    if (b.size() >= autojunk_length) {
        std::erase_if(places, [&](const auto& at) { return at.second.size() > b.size() / 100 + 1; });
    }
    return places;
}

struct Range {
    size_t a_begin, a_end, b_begin, b_end;
};

struct Block {
    size_t a, b, size;
};

class Matcher {
  public:
    Matcher(std::u32string_view a, std::u32string_view b) : a_(a), b_(b), places_(places_in(b)) {}

    /// Characters in matching blocks.
    size_t matched() const {
        size_t sum = 0;
        std::vector<Range> open = {{0, a_.size(), 0, b_.size()}};
        while (!open.empty()) {
            const Range range = open.back();
            open.pop_back();
            const Block block = longest_block(range);
            if (block.size == 0) continue;
            sum += block.size;
            open.push_back({range.a_begin, block.a, range.b_begin, block.b});
            open.push_back({block.a + block.size, range.a_end, block.b + block.size, range.b_end});
        }
        return sum;
    }

  private:
    /// Of the longest common blocks the first in a, and of those the first in b; lengthened by common characters.
    Block longest_block(const Range& range) const {
        Block best{range.a_begin, range.b_begin, 0};
        std::unordered_map<size_t, size_t> lengths;  // of the block that ends at a[i - 1] and b[j]
        for (size_t i = range.a_begin; i < range.a_end; ++i) {
            std::unordered_map<size_t, size_t> next;
            const auto found = places_.find(a_[i]);
            if (found != places_.end()) {
                for (const size_t j : found->second) {
                    if (j < range.b_begin) continue;
                    if (j >= range.b_end) break;
                    const auto before = j > 0 ? lengths.find(j - 1) : lengths.end();
                    const size_t length = 1 + (before != lengths.end() ? before->second : 0);
                    next[j] = length;
                    if (length > best.size) best = {i + 1 - length, j + 1 - length, length};
                }
            }
            lengths = std::move(next);
        }
        return lengthened(best, range);
    }

    Block lengthened(Block block, const Range& range) const {
        while (block.a > range.a_begin && block.b > range.b_begin && a_[block.a - 1] == b_[block.b - 1]) {
            --block.a, --block.b, ++block.size;
        }
        while (block.a + block.size < range.a_end && block.b + block.size < range.b_end &&
               a_[block.a + block.size] == b_[block.b + block.size]) {
            ++block.size;
        }
        return block;
    }

    std::u32string_view a_, b_;
    Places places_;
};

}  // namespace

double matching_ratio(std::u32string_view a, std::u32string_view b) {
    if (a.empty() && b.empty()) return 1;
    return 2.0 * double(Matcher(a, b).matched()) / double(a.size() + b.size());
}

int fuzz_ratio(std::u32string_view a, std::u32string_view b) {
    if (a == b) return 100;
    if (a.empty() || b.empty()) return 0;
    return int(std::nearbyint(100 * matching_ratio(a, b)));
}

}  // namespace fastkv::eval
