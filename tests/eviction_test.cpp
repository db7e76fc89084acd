// Evictions: what leaves the cache while the answer grows, against naive transcriptions of each rule and against the
// recorded runs of the reference.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>
#include <set>

#include "methods/h2o_eviction.h"
#include "methods/pyramid_eviction.h"
#include "methods/rolling_eviction.h"
#include "support/environment.h"

namespace fastkv {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

using Positions = std::vector<int32_t>;

Positions counted(int n) {
    Positions positions(static_cast<size_t>(n));
    std::iota(positions.begin(), positions.end(), 0);
    return positions;
}

std::vector<float> random_row(std::mt19937& random, size_t n) {
    std::uniform_real_distribution<float> uniform(0.0f, 1.0f);
    std::vector<float> row(n);
    for (float& x : row) x = uniform(random);
    return row;
}

// The cache of one layer, as the engine keeps it: entries of each head in their own order.
struct Cache {
    std::vector<Positions> heads;  // [n_head][entries]

    // Appends `position`, lets the eviction remove what it wants and returns that, by position and ascending.
    // `attention(head, position of the entry)` is what a query head pays.
    template <class Attention>
    std::vector<Positions> step(Eviction& eviction, int32_t position, int n_group, Attention attention) {
        for (Positions& head : heads) head.push_back(position);
        std::vector<std::vector<float>> rows(heads.size() * size_t(n_group));
        for (size_t i = 0; i < rows.size(); ++i) {
            for (int32_t entry : heads[i / size_t(n_group)]) rows[i].push_back(attention(int(i), entry));
        }
        const std::vector<std::vector<int>> removed = eviction.step(position, rows);
        std::vector<Positions> evicted(heads.size());
        for (size_t head = 0; head < heads.size() && !removed.empty(); ++head) {
            const std::vector<int>& entries = removed[removed.size() == 1 ? 0 : head];
            EXPECT_TRUE(std::is_sorted(entries.begin(), entries.end()));
            for (int entry : entries) evicted[head].push_back(heads[head].at(size_t(entry)));
            remove_entries(heads[head], entries);
            std::sort(evicted[head].begin(), evicted[head].end());
        }
        return evicted;
    }

    Positions sorted(size_t head = 0) const {
        Positions positions = heads[head];
        std::sort(positions.begin(), positions.end());
        return positions;
    }
};

constexpr auto no_attention = [](int, int32_t) { return 0.0f; };

TEST(EntriesByAge, OrdersTheAskedOnesByPosition) {
    const Positions positions = {0, 9, 4, 7, 2};
    EXPECT_THAT(entries_by_age(positions, 0, 5), ElementsAre(0, 4, 2, 3, 1));
    EXPECT_THAT(entries_by_age(positions, 1, 3), ElementsAre(4, 2));
    EXPECT_THAT(entries_by_age(positions, 5, 5), IsEmpty());
}

// Sinks and the newest, whatever the prompt's length; the sinks never move.
TEST(RollingEviction, KeepsSinksAndTheNewest) {
    for (int sinks : {0, 1, 4}) {
        for (int budget : {5, 7, 16}) {
            for (int n_prompt : {1, 3, 5, 6, 7, 15, 16, 17, 40}) {
                const auto eviction = rolling_eviction(sinks, budget);
                EXPECT_EQ(eviction->rolling_sinks(), sinks);
                Cache cache{.heads = {counted(n_prompt), counted(n_prompt)}};
                eviction->start(cache.heads, {}, {});
                for (int32_t position = n_prompt; position < n_prompt + 40; ++position) {
                    cache.step(*eviction, position, 1, no_attention);
                    Positions expected;
                    for (int32_t p = 0; p <= position; ++p) {
                        if (p < sinks || p > position - (budget - sinks)) expected.push_back(p);
                    }
                    ASSERT_EQ(cache.sorted(0), expected) << sinks << " " << budget << " " << n_prompt;
                    ASSERT_EQ(cache.heads[0], cache.heads[1]);
                    for (int32_t p = 0; p < std::min(sinks, position); ++p) ASSERT_EQ(cache.heads[0][size_t(p)], p);
                }
            }
        }
    }
}

// A prompt that was compressed to sinks and tail: what lies between is not in the cache, and the window goes on
// rolling.
TEST(RollingEviction, GoesOnFromACompressedPrompt) {
    const auto eviction = rolling_eviction(2, 5);
    Cache cache{.heads = {{0, 1, 97, 98, 99}}};
    eviction->start(cache.heads, {}, {});
    EXPECT_THAT(cache.step(*eviction, 100, 1, no_attention), ElementsAre(ElementsAre(97)));
    EXPECT_THAT(cache.step(*eviction, 101, 1, no_attention), ElementsAre(ElementsAre(98)));
    EXPECT_THAT(cache.sorted(), ElementsAre(0, 1, 99, 100, 101));
}

TEST(H2oEviction, DropsTheLowestSumThatIsNotRecent) {
    const auto eviction = h2o_eviction(/*budget=*/4, /*recent=*/2);
    Cache cache{.heads = {{0, 3, 8, 9}}};
    eviction->start(cache.heads, {}, std::vector<std::vector<float>>{{0.5f, 0.7f, 0.1f, 0.0f}});
    // 8 has the lowest sum of those that are not among the two newest, 9 and 10.
    EXPECT_THAT(cache.step(*eviction, 10, 1, no_attention), ElementsAre(ElementsAre(8)));
    // What the prompt's scores began, the answer's attention continues: 3 stays behind 0 now.
    const auto to_first = [](int, int32_t position) { return position == 0 || position == 9 ? 0.9f : 0.0f; };
    EXPECT_THAT(cache.step(*eviction, 11, 1, to_first), ElementsAre(ElementsAre(3)));
    EXPECT_THAT(cache.sorted(), ElementsAre(0, 9, 10, 11));
}

// Random attention, several heads: each against maps from position to sum.
TEST(H2oEviction, EqualsANaiveTranscription) {
    constexpr int n_head = 3, n_group = 2, budget = 20, recent = 7, n_prompt = 50;
    std::mt19937 random(7);
    for (int n_kept : {4, budget - 1, budget, budget + 6}) {
        const auto eviction = h2o_eviction(budget, recent);
        EXPECT_TRUE(eviction->reads_attention());
        EXPECT_TRUE(eviction->reads_scores());
        Cache cache;
        std::vector<std::vector<float>> scores;
        std::vector<std::map<int32_t, float>> sums(n_head);
        for (size_t head = 0; head < n_head; ++head) {
            Positions all = counted(n_prompt);
            std::shuffle(all.begin(), all.end(), random);
            all.resize(size_t(n_kept));
            std::sort(all.begin(), all.end());
            cache.heads.push_back(all);
            scores.push_back(random_row(random, all.size()));
            for (size_t i = 0; i < all.size(); ++i) sums[head][all[i]] = scores[head][i];
        }
        eviction->start(cache.heads, {}, scores);
        for (int32_t position = n_prompt; position < n_prompt + 60; ++position) {
            std::vector<std::vector<float>> paid(n_head * n_group);
            for (auto& row : paid) row = random_row(random, size_t(position) + 1);
            const auto evicted = cache.step(*eviction, position, n_group,
                                            [&](int head, int32_t entry) { return paid[size_t(head)][size_t(entry)]; });
            for (size_t head = 0; head < n_head; ++head) {
                auto& sum = sums[head];
                sum[position] = 0;
                for (auto& [entry, total] : sum) {
                    for (size_t g = 0; g < n_group; ++g) total += paid[head * n_group + g][size_t(entry)];
                }
                Positions expected;
                while (sum.size() > budget) {
                    const auto end = std::prev(sum.end(), recent);
                    const auto lowest = std::min_element(
                        sum.begin(), end, [](const auto& a, const auto& b) { return a.second < b.second; });
                    expected.push_back(lowest->first);
                    sum.erase(lowest);
                }
                std::sort(expected.begin(), expected.end());
                ASSERT_EQ(evicted[head], expected) << "head " << head << " at " << position;
            }
        }
    }
}

// The reference's decode of methods.md 1.7, word for word: matrices by position, weights multiplied in place.
struct NaivePyramid {
    PyramidEvictionParams params;
    Positions columns;                     // ascending
    std::vector<std::vector<float>> rows;  // [stored rows][columns]
    int base = 0;

    static float weight(double last, size_t row, size_t n_row) {
        return n_row == 1 ? 1.0f : float(1.0 + (last - 1.0) * double(row) / double(n_row - 1));
    }

    void prefill(const PromptAttention& attention) {
        for (int row = 0; row < attention.n_row; ++row) {
            const auto begin = attention.mean.begin() + row * attention.n_col;
            rows.emplace_back(begin, begin + attention.n_col);
            for (int column = 0; column < attention.n_col - attention.n_row; ++column) {
                rows.back()[size_t(column)] *= weight(params.distance_weight, size_t(row), size_t(attention.n_row));
            }
        }
        base = params.layer == params.n_layer - 1 ? attention.n_col : 0;
    }

    Positions step(int32_t position, int n_recent, const std::vector<float>& row) {
        columns.push_back(position);
        for (auto& stored : rows) stored.push_back(0);
        rows.push_back(row);
        Positions evicted;
        if (position + 1 - n_recent - base >= 16) {
            const int right = int(columns.size()) - 1 - n_recent;
            const int left = std::max(0, right - 16);
            const int width = right - left;
            const size_t used = std::min(rows.size(), size_t(n_recent) + 1);
            std::vector<std::pair<float, int>> order;  // (-score, column)
            for (int column = left; column < right; ++column) {
                float sum = 0;
                for (size_t i = 0; i < used; ++i) {
                    float& x = rows[rows.size() - used + i][size_t(column)];
                    x *= weight(params.distance_weight, i, used);
                    sum += x;
                }
                order.emplace_back(-sum / float(used), column);
            }
            std::sort(order.begin(), order.end());
            order.erase(order.begin(), order.begin() + std::max(int(width * 0.9), 1));
            std::sort(order.begin(), order.end(), [](auto& a, auto& b) { return a.second > b.second; });
            for (const auto& [score, column] : order) {
                evicted.insert(evicted.begin(), columns[size_t(column)]);
                columns.erase(columns.begin() + column);
                for (auto& stored : rows) stored.erase(stored.begin() + column);
            }
            base = int(columns.size()) - n_recent;
        }
        while (std::ssize(rows) > 1 + n_recent) rows.erase(rows.begin());
        return evicted;
    }
};

PromptAttention random_attention(std::mt19937& random, int n_row, int n_col) {
    return {.n_row = n_row, .n_col = n_col, .mean = random_row(random, size_t(n_row) * size_t(n_col))};
}

// Layer 0, a deep layer and the last one, side by side: the naive ones read layer 0's length off its cache.
TEST(ReferencePyramid, EqualsANaiveTranscription) {
    for (double recent : {0.01, 0.2}) {
        constexpr int n_layer = 3, n_prompt = 130;
        std::mt19937 random(11);
        std::vector<std::unique_ptr<Eviction>> evictions;
        std::vector<NaivePyramid> naive;
        std::vector<Cache> caches;
        for (int layer = 0; layer < n_layer; ++layer) {
            const PyramidEvictionParams params{.variant = PyramidDecode::reference,
                                               .layer = layer,
                                               .n_layer = n_layer,
                                               .n_prompt = n_prompt,
                                               .recent = recent,
                                               .distance_weight = 1.2};
            evictions.push_back(pyramid_eviction(params));
            EXPECT_EQ(evictions.back()->prompt_rows(), 1 + int(n_prompt * recent));
            Positions kept = counted(n_prompt);
            for (int i = 0; i < 20 * layer; ++i) kept.erase(kept.begin() + 5 + i);
            caches.push_back({.heads = {kept, kept}});
            const PromptAttention attention =
                random_attention(random, evictions.back()->prompt_rows(), int(kept.size()));
            evictions.back()->start(caches.back().heads, attention, {});
            naive.push_back({.params = params, .columns = kept, .rows = {}});
            naive.back().prefill(attention);
        }
        for (int32_t position = n_prompt; position < n_prompt + 80; ++position) {
            const int n_recent = int(double(1 + naive[0].columns.size()) * recent);
            for (size_t layer = 0; layer < n_layer; ++layer) {
                // Both heads pay the same, so that their mean is the row.
                const std::vector<float> paid = random_row(random, size_t(position) + 1);
                std::vector<float> row;
                for (int32_t column : naive[layer].columns) row.push_back(paid[size_t(column)]);
                row.push_back(paid[size_t(position)]);
                const auto evicted = caches[layer].step(*evictions[layer], position, 1,
                                                        [&](int, int32_t entry) { return paid[size_t(entry)]; });
                ASSERT_EQ(evicted[0], naive[layer].step(position, n_recent, row))
                    << "layer " << layer << " at " << position << ", recent " << recent;
                ASSERT_EQ(evicted[0], evicted[1]);
                ASSERT_EQ(caches[layer].sorted(), naive[layer].columns);
            }
        }
    }
}

std::vector<nlohmann::json> pyramid_records() {
    std::vector<nlohmann::json> records;
    for (const auto& file : std::filesystem::directory_iterator(*test::shared_folder() + "/golden")) {
        if (!file.path().filename().string().starts_with("pyramidinfer-")) continue;
        records.push_back(nlohmann::json::parse(std::ifstream(file.path())));
    }
    return records;
}

PyramidEvictionParams recorded_params(const nlohmann::json& record, int layer) {
    const nlohmann::json& p = record["params"]["pyramidinfer"];
    return {.variant = PyramidDecode::reference,
            .layer = layer,
            .n_layer = int(record["cache"]["tokens"].size()),
            .n_prompt = record["prompt"]["n"],
            .recent = p["recent_ratio"],
            .distance_weight = 1,  // so that what a test pays to a column is its score
            .keep = p["gen_compress_ratio"],
            .block = p["exceed_length_to_compress"]};
}

// A layer's cache begins with `kept` and pays `worth(position)` to each, in the prefill and after.
template <class Worth>
std::unique_ptr<Eviction> started(const PyramidEvictionParams& params, const Positions& kept, Worth worth) {
    auto eviction = pyramid_eviction(params);
    PromptAttention attention{.n_row = eviction->prompt_rows(), .n_col = int(kept.size()), .mean = {}};
    for (int row = 0; row < attention.n_row; ++row) {
        for (int32_t position : kept) attention.mean.push_back(worth(position));
    }
    eviction->start(std::vector<Positions>{kept}, attention, {});
    return eviction;
}

// How many entries every layer has after every step does not depend on what attention says.
TEST(ReferencePyramid, HasTheRecordedLengths) {
    FASTKV_NEED("the folder FASTKV_SHARED", test::shared_folder());
    const auto records = pyramid_records();
    ASSERT_THAT(records, SizeIs(7));
    for (const nlohmann::json& record : records) {
        const std::vector<int> tokens = record["cache"]["tokens"];
        for (size_t layer = 0; layer < tokens.size(); ++layer) {
            const PyramidEvictionParams params = recorded_params(record, int(layer));
            Cache cache{.heads = {counted(tokens[layer])}};
            const auto eviction = started(params, cache.heads[0], [](int32_t) { return 0.0f; });
            int32_t position = params.n_prompt;
            for (const nlohmann::json& lengths : record["cache"]["tokens_after_each_decode_step"]) {
                cache.step(*eviction, position++, 1, no_attention);
                ASSERT_EQ(int(cache.heads[0].size()), lengths[layer].get<int>())
                    << record["case"] << ", layer " << layer << " at " << position - 1;
            }
        }
    }
}

// Where the recorded evictions get the least attention, the earlier ones less than the later, exactly they leave: so
// the blocks lie where the reference's lay.
TEST(ReferencePyramid, LooksAtTheRecordedBlocks) {
    FASTKV_NEED("the folder FASTKV_SHARED", test::shared_folder());
    for (const nlohmann::json& record : pyramid_records()) {
        for (const auto& [layer, selection] : record["selection"].items()) {
            const PyramidEvictionParams params = recorded_params(record, std::stoi(layer));
            const nlohmann::json& kept = selection["kept"];
            Cache cache{.heads = {kept.is_string() ? counted(params.n_prompt) : kept[0].get<Positions>()}};
            const std::vector<Positions> evictions = selection["decode_evicted"];
            std::map<int32_t, size_t> leaves_at;
            for (size_t step = 0; step < evictions.size(); ++step) {
                for (int32_t position : evictions[step]) leaves_at[position] = step;
            }
            const auto worth = [&](int32_t position) {
                const auto found = leaves_at.find(position);
                return found == leaves_at.end() ? 1.0f : 1e-3f * float(found->second);
            };
            const auto eviction = started(params, cache.heads[0], worth);
            for (size_t step = 0; step < evictions.size(); ++step) {
                const int32_t position = params.n_prompt + int32_t(step);
                const auto evicted =
                    cache.step(*eviction, position, 1, [&](int, int32_t entry) { return worth(entry); });
                ASSERT_EQ(evicted[0], evictions[step]) << record["case"] << ", layer " << layer << " at " << position;
            }
            EXPECT_EQ(cache.sorted(), selection["kept_after_last_step"][0].get<Positions>());
        }
    }
}

// Blocks of 16 that follow each other, of each the 14 with the highest mean attention; random attention.
TEST(GuardedPyramid, KeepsTheShareOfEachBlockOnce) {
    constexpr int n_prompt = 100, n_kept = 60;
    constexpr double recent = 0.2;
    Positions kept = counted(n_prompt);
    kept.erase(kept.begin() + 10, kept.begin() + 10 + n_prompt - n_kept);
    const auto eviction = pyramid_eviction({.n_prompt = n_prompt, .recent = recent});
    EXPECT_EQ(eviction->prompt_rows(), 0);
    Cache cache{.heads = {kept}};
    eviction->start(cache.heads, {}, {});

    std::mt19937 random(5);
    std::map<int32_t, std::pair<float, int>> received;     // sum, steps
    int32_t next = n_prompt - int(n_prompt * recent) - 1;  // the first token that was recent when the prompt ended
    for (int32_t position = n_prompt; position < 400; ++position) {
        const std::vector<float> paid = random_row(random, size_t(position) + 1);
        for (int32_t entry : cache.heads[0]) received[entry].first += paid[size_t(entry)], ++received[entry].second;
        received[position] = {paid[size_t(position)], 1};
        const auto evicted =
            cache.step(*eviction, position, 1, [&](int, int32_t entry) { return paid[size_t(entry)]; })[0];

        const int32_t first_recent = position - int((position + 1) * recent);
        ASSERT_GE(int(cache.heads[0].size()), n_kept);
        if (first_recent - next < 16) {
            ASSERT_THAT(evicted, IsEmpty());
            continue;
        }
        Positions block(16);
        std::iota(block.begin(), block.end(), next);
        std::sort(block.begin(), block.end(), [&](int32_t a, int32_t b) {
            return received[a].first / float(received[a].second) < received[b].first / float(received[b].second);
        });
        Positions lowest = {block[0], block[1]};
        std::sort(lowest.begin(), lowest.end());
        ASSERT_EQ(evicted, lowest) << "at " << position;
        next += 16;
    }
    EXPECT_GT(next, n_prompt + 100);
    // All that the prefill chose from the context is still there.
    const Positions last = cache.sorted();
    EXPECT_TRUE(std::includes(last.begin(), last.end(), kept.begin(), kept.begin() + 30));
}

// However short the prompt, sinks stay although nothing attends to them.
TEST(GuardedPyramid, NeverDropsASink) {
    for (int n_prompt : {1, 2, 5, 20}) {
        for (int sinks : {4, 20}) {
            const auto eviction = pyramid_eviction({.n_prompt = n_prompt, .recent = 0.01, .keep = 0.5, .sinks = sinks});
            Cache cache{.heads = {counted(n_prompt)}};
            eviction->start(cache.heads, {}, {});
            for (int32_t position = n_prompt; position < 100; ++position) {
                cache.step(*eviction, position, 1, [](int, int32_t entry) { return float(entry); });
            }
            const Positions positions = cache.sorted();
            ASSERT_LT(int(positions.size()), 70);
            for (int32_t p = 0; p < sinks; ++p) ASSERT_EQ(positions[size_t(p)], p);
        }
    }
}

}  // namespace
}  // namespace fastkv
