// What every method and variant makes of tiny random models and prompts of any length, held against a model in double
// precision that attends to exactly the entries which the session says it holds.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <utility>

#include "fastkv/fastkv.h"
#include "methods/carry_out.h"
#include "methods/schedule.h"
#include "methods/spans.h"
#include "support/compare.h"
#include "support/naive_model.h"
#include "support/tiny_model.h"
#include "support/variants.h"

namespace fastkv {
namespace {

using test::best;
using test::largest_difference;
using test::NaiveEntry;
using test::NaiveModel;
using test::NaiveSession;
using test::random_tokens;
using test::TinyModel;
using test::Variant;

/// A tiny model as the engine has it, on its own kernels and on ggml's operators, and as the test has it.
struct Subject {
    std::string name;
    std::string path;
    Model own;
    Model standard;
    NaiveModel naive;
    std::map<int, NaiveSession> prefilled;  // prompts of so many tokens, through all layers
};

Model load(const std::string& path, Ops ops, int n_threads = 1) {
    ModelParams params;
    params.compute = Compute::f32;
    params.ops = ops;
    params.n_threads = n_threads;
    return Model::load(path, params);
}

Subject make_subject(const std::string& name, const TinyModel& tiny) {
    const std::string path = test::write_tiny_model(tiny);
    const Model own = load(path, Ops::automatic);
    return {name, path, own, load(path, Ops::standard), NaiveModel(path, own.hparams()), {}};
}

/// Made once for all tests of the program.
std::vector<Subject>& subjects() {
    static std::vector<Subject> all = [] {
        std::vector<Subject> made;
        made.push_back(make_subject("Llama", {.n_layer = 4}));
        made.push_back(make_subject(
            "OddHeads", {.n_layer = 4, .n_embd = 48, .n_head = 6, .n_head_kv = 2, .head_dim = 20, .n_ff = 64}));
        made.push_back(make_subject("Qwen2", {.arch = "qwen2",
                                              .n_layer = 4,
                                              .n_embd = 96,
                                              .n_head = 3,
                                              .n_head_kv = 1,
                                              .head_dim = 32,
                                              .qkv_bias = true}));
        made.push_back(make_subject("SlidingWindow", {.n_layer = 4, .sliding_window = 50}));
        return made;
    }();
    return all;
}

std::vector<Token> prompt_of(const Subject& subject, int n) {
    return random_tokens(subject.own.hparams().n_vocab, n, uint32_t(n));
}

/// Lengths around every threshold, and one of any length; a `few` of them for what takes long.
std::vector<int> lengths(const Subject& subject, bool few = false) {
    std::mt19937 random(uint32_t(subject.name.size()));
    const int any = std::uniform_int_distribution<int>(100, 299)(random);
    if (few) return {1, 9, 80, any};
    std::vector<int> all = {1, 7, 8, 9, 79, 80, 81, any, 300};
    if (subject.name == "Llama") all.push_back(700);
    return all;
}

class Variants : public ::testing::TestWithParam<std::tuple<Variant, size_t>> {
  protected:
    const Variant& variant() const { return std::get<0>(GetParam()); }
    Subject& subject() const { return subjects()[std::get<1>(GetParam())]; }
    MethodParams params() const { return variant().params(); }

    std::vector<PlannedLayer> plan(int n_prompt) const {
        const HyperParams& hp = subject().own.hparams();
        return plan_prompt(find_method(variant().method), resolve(params(), hp), hp.n_layer, n_prompt);
    }
    /// The layers that leave a cache.
    std::vector<PlannedLayer> last_pass(int n_prompt) const {
        const std::vector<PlannedLayer> layers = plan(n_prompt);
        return {layers.end() - subject().own.hparams().n_layer, layers.end()};
    }
};

// ---- what is kept ---------------------------------------------------------------------------------------------------

void expect_ascending(const std::vector<int>& positions, int n_prompt) {
    EXPECT_EQ(std::ranges::adjacent_find(positions, std::greater_equal<>()), positions.end());
    EXPECT_TRUE(positions.empty() || (positions.front() >= 0 && positions.back() < n_prompt));
}

void expect_contains(const std::vector<int>& positions, int first, int end) {
    for (int position = first; position < end; ++position) {
        EXPECT_TRUE(std::ranges::binary_search(positions, position)) << "position " << position;
    }
}

void expect_as_planned(const LayerReport& report, const PlannedLayer& layer, const Model& model, int n_prompt) {
    const HyperParams& hp = model.hparams();
    EXPECT_EQ(report.rows, layer.at.n_rows);
    EXPECT_EQ(report.cached, layer.cached);
    ASSERT_EQ(report.n_head_cached, layer.cached_heads(hp.n_head, hp.n_head_kv));
    int total = 0;
    for (int head = 0; head < report.n_head_cached; ++head) {
        const std::vector<int>& kept = report.kept_by(head);
        total += int(kept.size());
        expect_ascending(kept, n_prompt);
        const KeepPlan keep = layer.plan.keep.value_or(KeepPlan{});
        EXPECT_GE(int(kept.size()), int(keep.floor * keep.count));
        EXPECT_TRUE(keep.floor < 1 || int(kept.size()) == layer.cached) << kept.size();
    }
    EXPECT_EQ(total, layer.cached * report.n_head_cached);
    if (layer.plan.propagate) {
        expect_ascending(report.propagated, n_prompt);
        EXPECT_EQ(int(report.propagated.size()), layer.passed);
    }
}

TEST_P(Variants, KeepWhatTheyPlan) {
    const Model& model = subject().own;
    const MethodParams resolved = resolve(params(), model.hparams());
    for (const int n : lengths(subject())) {
        SCOPED_TRACE(std::to_string(n) + " tokens");
        PrefillProgress progress;
        Session session(model, params(), {.n_predict = 5});
        session.prefill(prompt_of(subject(), n), [&](const PrefillProgress& at) {
            progress = at;
            return true;
        });
        EXPECT_EQ(progress.rows_done, progress.rows_total);
        const std::vector<PlannedLayer> layers = last_pass(n);
        ASSERT_EQ(session.layers().size(), layers.size());
        for (size_t i = 0; i < layers.size(); ++i) {
            SCOPED_TRACE("layer " + std::to_string(i));
            const LayerReport& report = session.layers()[i];
            expect_as_planned(report, layers[i], model, n);
            for (int head = 0; head < report.n_head_cached; ++head) {
                EXPECT_EQ(session.cached_positions(int(i), head), report.kept_by(head));
                expect_contains(report.kept_by(head), 0, std::min(n, resolved.sinks.value_or(0)));
                if (resolved.h2o_decode != H2oDecode::evict) {  // there the window only goes on
                    expect_contains(report.kept_by(head), std::max(0, n - resolved.window.value_or(0)), n);
                }
            }
        }
        EXPECT_EQ(session.memory().kv_cache_bytes, estimate(model, params(), n, {.n_predict = 5}).kv_cache_bytes);
    }
}

// ---- what the naive model says ----------------------------------------------------------------------------------

/// What the engine holds of a prompt, and the same prompt read by the naive model.
struct Followed {
    Session session;
    NaiveSession naive;
    std::vector<int> original;  // what a restart left: the prompt's positions by those of the naive prompt; or empty
};

/// The prompt as the naive model reads it. That of a prompt whose rows all go on is read once.
NaiveSession read(Subject& subject, std::span<const Token> prompt, std::span<const std::vector<int>> go_on) {
    const int n = int(prompt.size());
    const bool shared = std::ranges::all_of(go_on, [](const auto& rows) { return rows.empty(); }) &&
                        std::ranges::equal(prompt, prompt_of(subject, n));
    if (shared && subject.prefilled.contains(n)) return subject.prefilled.at(n);
    NaiveSession session(subject.naive);
    session.prefill(prompt, go_on);
    if (shared) subject.prefilled.emplace(n, session);
    return session;
}

/// Which positions go on past every layer: [n_layer], empty where all do.
std::vector<std::vector<int>> propagated(const Session& session) {
    std::vector<std::vector<int>> go_on;
    for (const LayerReport& report : session.layers()) go_on.push_back(report.propagated);
    return go_on;
}

bool has_restarted(const Session& session) { return session.n_past() < session.n_prompt(); }

Followed follow(Subject& subject, const Model& model, const MethodParams& params, int n,
                const SessionParams& session_params) {
    Session session(model, params, session_params);
    const std::vector<Token> prompt = prompt_of(subject, n);
    session.prefill(prompt);
    std::vector<std::vector<int>> go_on = propagated(session);
    if (!has_restarted(session)) {
        NaiveSession naive = read(subject, prompt, go_on);
        return {std::move(session), std::move(naive), {}};
    }
    const std::vector<int> left = session.layers()[0].kept_by(0);
    std::vector<Token> rest;
    for (const int position : left) rest.push_back(prompt[size_t(position)]);
    NaiveSession naive = read(subject, rest, std::vector<std::vector<int>>(go_on.size()));
    return {std::move(session), std::move(naive), left};
}

/// What a cached head holds, where the naive model sees it: at the tokens' own positions, or with `rolling` at their
/// places in the cache.
std::vector<NaiveEntry> entries_of(const Followed& at, int layer, int head, bool rolling) {
    std::vector<int> positions = at.session.cached_positions(layer, head);
    if (!at.original.empty()) {  // a prompt of its own: entries have new positions
        std::iota(positions.begin(), positions.end(), 0);
    }
    std::ranges::sort(positions);
    std::vector<NaiveEntry> entries;
    for (const int position : positions) {
        entries.push_back({position, rolling ? int(entries.size()) : position});
    }
    return entries;
}

void decode_both(Followed& at, Token token, bool rolling) {
    const int n_layer = int(at.session.layers().size());
    std::vector<std::vector<std::vector<NaiveEntry>>> seen;  // [n_layer][cached heads]
    for (int layer = 0; layer < n_layer; ++layer) {
        auto& heads = seen.emplace_back();
        for (int head = 0; head < at.session.n_head_cached(layer); ++head) {
            heads.push_back(entries_of(at, layer, head, rolling));
        }
    }
    const int position = at.session.n_past();
    const int stands_at = rolling ? int(seen[0][0].size()) : position;
    at.naive.decode(token, position, stands_at, [&](int layer, int head) {
        const auto& heads = seen[size_t(layer)];
        return heads[size_t(head) / (size_t(at.naive.n_head()) / heads.size())];
    });
    at.session.decode(token);
}

// ---- choosing and decoding are what they would be from scratch ---------------------------------------------------

/// Entries of two lists that only one has.
size_t differing(const std::vector<int>& a, const std::vector<int>& b) {
    return a.size() + b.size() - 2 * test::common(a, b);
}

std::vector<int> at_rows(const std::vector<int>& positions, const std::vector<int>& rows) {
    std::vector<int> chosen;
    for (const int row : rows) chosen.push_back(positions[size_t(row)]);
    return chosen;
}

// The method's plan, carried out with scores in double precision.
TEST_P(Variants, ChooseByTheScoresOfTheirPlan) {
    constexpr int n = 170;
    const HyperParams& hp = subject().own.hparams();
    Session session(subject().own, params());
    const std::vector<Token> prompt = prompt_of(subject(), n);
    session.prefill(prompt);
    const bool restarted = has_restarted(session);
    const NaiveSession naive =
        read(subject(), prompt, restarted ? std::vector<std::vector<int>>(size_t(hp.n_layer)) : propagated(session));
    std::vector<std::string> pieces;
    for (const Token token : prompt) pieces.push_back(subject().own.piece(token));
    const std::vector<int> spans = find_spans(pieces);

    std::vector<int> positions(n);
    std::iota(positions.begin(), positions.end(), 0);
    std::vector<std::vector<float>> totals;
    for (const PlannedLayer& layer : plan(n)) {
        SCOPED_TRACE("layer " + std::to_string(layer.at.layer));
        if (layer.at.pass > 0 || (layer.plan.score && layer.plan.score->kind == ScoreKind::expected)) break;
        const LayerReport& report = session.layers()[size_t(layer.at.layer)];
        const Scores scores = layer.plan.score ? naive.scores(layer.at.layer, *layer.plan.score) : Scores{};
        const Choice choice = carry_out(layer.plan, scores,
                                        {.n_group = hp.n_group(),
                                         .n_rows = layer.at.n_rows,
                                         .spans = at_rows(spans, positions),
                                         .earlier = totals});
        totals.push_back(choice.total);
        for (size_t head = 0; head < choice.kept.size(); ++head) {
            EXPECT_EQ(differing(at_rows(positions, choice.kept[head]), report.kept_by(int(head))), 0u) << head;
        }
        if (!layer.plan.propagate) continue;
        EXPECT_EQ(differing(at_rows(positions, choice.propagated), report.propagated), 0u);
        positions = report.propagated;
    }
}

TEST_P(Variants, DecodeOverExactlyWhatTheyKeep) {
    const bool rolling = params().streaming == Streaming::rolling;
    for (const int n : lengths(subject(), /*few=*/true)) {
        SCOPED_TRACE(std::to_string(n) + " tokens");
        Followed at = follow(subject(), subject().own, params(), n, {.n_predict = 7});
        ASSERT_LT(largest_difference(at.session.logits(), at.naive.logits()), 2e-3);
        for (int step = 0; step < 20; ++step) {
            const Token token = best(at.session.logits());
            decode_both(at, token, rolling);
            ASSERT_LT(largest_difference(at.session.logits(), at.naive.logits()), 2e-3) << "step " << step;
        }
    }
}

// ---- ggml's operators, threads, storage -------------------------------------------------------------------------

/// Of the entries that `a` holds now, those that `b` holds too, as a share.
double held_by_both(const Session& a, const Session& b) {
    size_t both = 0, all = 0;
    for (int layer = 0; layer < int(a.layers().size()); ++layer) {
        for (int head = 0; head < a.n_head_cached(layer); ++head) {
            std::vector<int> of_a = a.cached_positions(layer, head), of_b = b.cached_positions(layer, head);
            std::ranges::sort(of_a);
            std::ranges::sort(of_b);
            both += test::common(of_a, of_b);
            all += of_a.size();
        }
    }
    return double(both) / double(all);
}

TEST_P(Variants, GgmlsOperatorsChooseAndComputeTheSame) {
    for (const int n : {30, 260}) {
        Session own(subject().own, params(), {.n_predict = 3}), ggml(subject().standard, params(), {.n_predict = 3});
        own.prefill(prompt_of(subject(), n));
        ggml.prefill(prompt_of(subject(), n));
        ASSERT_EQ(test::overlap(own, ggml), 1) << n;
        for (int step = 0; step < 10; ++step) {
            ASSERT_LT(largest_difference(own.logits(), ggml.logits()), 5e-3) << n << " tokens, step " << step;
            const Token token = best(own.logits());
            own.decode(token);
            ggml.decode(token);
            ASSERT_EQ(held_by_both(own, ggml), 1) << n << " tokens, step " << step;
        }
    }
}

/// Quantised types store 32 values at a time: only of a model whose heads are so long.
class Blocks : public Variants {
  protected:
    void expect_stored(CacheType type, uint64_t block_bytes, double bound) {
        const SessionParams stored = {.n_predict = 4, .cache_type_k = type, .cache_type_v = type};
        Session exact(subject().own, params(), {.n_predict = 4});
        exact.prefill(prompt_of(subject(), 200));
        for (const Model* model : {&subject().own, &subject().standard}) {
            Followed at = follow(subject(), *model, params(), 200, stored);
            EXPECT_EQ(test::overlap(exact, at.session), 1);  // what is stored does not choose
            EXPECT_LT(largest_difference(exact.logits(), at.session.logits()), 5e-3);
            for (int step = 0; step < 20; ++step) {
                decode_both(at, best(at.session.logits()), params().streaming == Streaming::rolling);
                ASSERT_LT(largest_difference(at.session.logits(), at.naive.logits()), bound) << "step " << step;
            }
            if (model != &subject().own) continue;
            Session fresh(*model, params(), stored);
            fresh.prefill(prompt_of(subject(), 200));
            const uint64_t bytes = fresh.memory().kv_cache_bytes;
            EXPECT_EQ(bytes, estimate(*model, params(), 200, stored).kv_cache_bytes);
            uint64_t frames = 0;  // of the keys, two float32 for each component
            for (int layer = 0; layer < model->hparams().n_layer; ++layer) {
                frames += uint64_t(fresh.n_head_cached(layer) * model->hparams().head_dim) * 2 * sizeof(float);
            }
            EXPECT_EQ((bytes - frames) * 128, exact.memory().kv_cache_bytes * block_bytes);  // f32: 128 bytes a block
        }
    }
};

TEST_P(Blocks, OfEightBitsAreStoredAndReadByBothOperators) { expect_stored(CacheType::q8_0, 34, 0.5); }

TEST_P(Blocks, OfFiveBitsAreStoredAndReadByBothOperators) { expect_stored(CacheType::q5_0, 22, 3); }

TEST_P(Blocks, OfFourBitsAreStoredAndReadByBothOperators) { expect_stored(CacheType::q4_0, 18, 6); }

std::string name_of(const ::testing::TestParamInfo<Variants::ParamType>& info) {
    return std::get<0>(info.param).name + "On" + subjects()[std::get<1>(info.param)].name;
}

INSTANTIATE_TEST_SUITE_P(Tiny, Blocks,
                         ::testing::Combine(::testing::ValuesIn(test::variants()), ::testing::Values<size_t>(2)),
                         name_of);

INSTANTIATE_TEST_SUITE_P(Tiny, Variants,
                         ::testing::Combine(::testing::ValuesIn(test::variants()), ::testing::Range<size_t>(0, 4)),
                         name_of);

// Of every way to score. Threads of a busy machine wait long for each other: the prompts are short.
TEST(Threads, DoNotChangeTheChoice) {
    Subject& subject = subjects()[1];
    const Model models[] = {subject.own, load(subject.path, Ops::automatic, 2), load(subject.path, Ops::automatic, 3)};
    const std::set<std::string> names = {
        "SnapKv", "H2o", "H2oReference", "H2oEvict", "GemFilter", "FastKvExpected", "PyramidInferReference"};
    for (const Variant& variant : test::variants()) {
        if (!names.contains(variant.name)) continue;
        SCOPED_TRACE(variant.name);
        std::vector<Session> sessions;
        for (const Model& model : models) {
            Session& session = sessions.emplace_back(model, variant.params());
            session.prefill(prompt_of(subject, 90));
            for (Token token = 10; token < 13; ++token) session.decode(token);
            EXPECT_EQ(test::overlap(sessions[0], session), 1);
            EXPECT_EQ(held_by_both(sessions[0], session), 1);
            EXPECT_LT(largest_difference(sessions[0].logits(), session.logits()), 1e-3);
        }
    }
}

// ---- long answers ---------------------------------------------------------------------------------------------------

class LongAnswers : public ::testing::TestWithParam<Variant> {};

std::vector<Variant> evicting() {
    std::vector<Variant> found;
    for (const Variant& variant : test::variants()) {
        if (variant.evicts) found.push_back(variant);
    }
    return found;
}

/// Entries of each layer's first head.
std::vector<size_t> entry_counts(const Session& session) {
    std::vector<size_t> counts;
    for (int layer = 0; layer < int(session.layers().size()); ++layer) {
        counts.push_back(session.cached_positions(layer, 0).size());
    }
    return counts;
}

TEST_P(LongAnswers, StayWithinWhatTheMethodAllows) {
    Subject& subject = subjects()[0];
    const MethodParams params = resolve(GetParam().params(), subject.own.hparams());
    Session session(subject.own, GetParam().params(), {.n_predict = 4});
    session.prefill(prompt_of(subject, 150));
    const std::vector<size_t> before = entry_counts(session);
    for (int step = 0; step < 300; ++step) {
        session.decode(best(session.logits()));
        for (int layer = 0; layer < 4; ++layer) {
            for (int head = 0; head < session.n_head_cached(layer); ++head) {
                std::vector<int> held = session.cached_positions(layer, head);
                std::ranges::sort(held);
                ASSERT_EQ(std::ranges::adjacent_find(held), held.end()) << "step " << step;
                ASSERT_EQ(held.back(), session.n_past() - 1) << "step " << step;
                if (params.pyramid_decode == PyramidDecode::reference) continue;
                const size_t allowed = before[size_t(layer)];
                if (params.method == "pyramidinfer") {
                    ASSERT_GE(held.size(), allowed) << "step " << step;
                } else {
                    ASSERT_EQ(held.size(), allowed) << "step " << step;
                }
                expect_contains(held, 0, params.sinks.value_or(0));
            }
        }
    }
}

// Of a prompt below the budget the key/value heads are cached, whoever is to choose.
TEST(LongAnswersOfShortPrompts, QueryHeadsThatShareAHeadEvictTogether) {
    Subject& subject = subjects()[0];
    MethodParams params{.method = "h2o", .budget = 40, .h2o_decode = H2oDecode::evict};
    Session per_kv_head(subject.own, params);
    params.select_per = SelectPer::query_head;
    Session per_query_head(subject.own, params);
    for (Session* session : {&per_kv_head, &per_query_head}) session->prefill(prompt_of(subject, 30));
    for (Token token = 10; token < 60; ++token) {
        per_kv_head.decode(token);
        per_query_head.decode(token);
        for (int head = 0; head < 2; ++head) {
            ASSERT_EQ(per_kv_head.cached_positions(1, head), per_query_head.cached_positions(1, head)) << token;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Tiny, LongAnswers, ::testing::ValuesIn(evicting()),
                         [](const auto& param) { return param.param.name; });

}  // namespace
}  // namespace fastkv
