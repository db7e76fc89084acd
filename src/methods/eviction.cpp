#include "methods/eviction.h"

#include <algorithm>
#include <numeric>

namespace fastkv {

bool heads_alike(std::span<const std::vector<int32_t>> positions) {
    return std::all_of(positions.begin(), positions.end(), [&](const auto& head) { return head == positions[0]; });
}

std::vector<int> entries_by_age(std::span<const int32_t> positions, int first, int last) {
    const auto older = [&](int a, int b) { return positions[size_t(a)] < positions[size_t(b)]; };
    std::vector<int> entries(positions.size());
    std::iota(entries.begin(), entries.end(), 0);
    const auto begin = entries.begin() + first;
    const auto end = entries.begin() + last;
    std::nth_element(entries.begin(), begin, entries.end(), older);
    std::nth_element(begin, end, entries.end(), older);
    std::sort(begin, end, older);
    return {begin, end};
}

}  // namespace fastkv
