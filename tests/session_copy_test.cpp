// Copies of sessions, in memory and in files: they go on as the original does, bit for bit, and a file that is not what
// was written is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <functional>
#include <random>

#include "engine/session_file.h"
#include "fastkv/fastkv.h"
#include "support/compare.h"
#include "support/file_size_limit.h"
#include "support/tiny_model.h"
#include "support/variants.h"

namespace fastkv {
namespace {

namespace fs = std::filesystem;
using test::best;
using test::random_tokens;
using test::TinyModel;
using test::Variant;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::string message_of(const std::function<void()>& call) {
    try {
        call();
    } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::failure) << error.what();
        return error.what();
    }
    return "";
}

std::vector<float> logits_of(const Session& session) { return {session.logits().begin(), session.logits().end()}; }

void expect_same_state(const Session& a, const Session& b) {
    ASSERT_TRUE(std::ranges::equal(a.tokens(), b.tokens()));
    EXPECT_EQ(logits_of(a), logits_of(b));
    EXPECT_EQ(a.n_prompt(), b.n_prompt());
    EXPECT_EQ(a.n_past(), b.n_past());
    EXPECT_EQ(a.rewindable_to(), b.rewindable_to());
    EXPECT_EQ(method_text(a.method()), method_text(b.method()));
    ASSERT_EQ(a.layers().size(), b.layers().size());
    for (size_t layer = 0; layer < a.layers().size(); ++layer) {
        EXPECT_EQ(a.layers()[layer].rows, b.layers()[layer].rows);
        EXPECT_EQ(a.layers()[layer].cached, b.layers()[layer].cached);
        EXPECT_EQ(a.layers()[layer].kept, b.layers()[layer].kept);
        EXPECT_EQ(a.layers()[layer].propagated, b.layers()[layer].propagated);
        ASSERT_EQ(a.n_head_cached(int(layer)), b.n_head_cached(int(layer)));
        for (int head = 0; head < a.n_head_cached(int(layer)); ++head) {
            ASSERT_EQ(a.cached_positions(int(layer), head), b.cached_positions(int(layer), head)) << "layer " << layer;
        }
    }
}

/// Decodes the same tokens in both.
void expect_same_answers(Session& a, Session& b, int n) {
    for (int i = 0; i < n; ++i) {
        const Token next = i % 3 == 0 ? Token(5 + i) : best(a.logits());
        a.decode(next);
        b.decode(next);
        ASSERT_EQ(logits_of(a), logits_of(b)) << "token " << i;
    }
}

Session saved_and_loaded(const Model& model, const Session& session, const SessionParams& params = {}) {
    const std::string path = test::temporary_path(".session");
    session.save(path);
    Session loaded = Session::load(model, path, params);
    fs::remove(path);
    return loaded;
}

// ---- every method -----------------------------------------------------------------------------------------------

struct Shape {
    const char* name;
    TinyModel model;
    ModelParams params;
    CacheType cache = CacheType::automatic;
};

std::vector<Shape> shapes() {
    const TinyModel llama{.n_layer = 4};
    const TinyModel window{.n_layer = 4, .sliding_window = 60};
    const TinyModel wide{.n_layer = 4, .n_embd = 64, .n_head = 4, .n_head_kv = 2, .head_dim = 32};
    return {
        {"Bf16", llama, {.n_threads = 1}},
        {"F32", llama, {.n_threads = 1, .compute = Compute::f32}},
        {"StandardOps", llama, {.n_threads = 1, .ops = Ops::standard}},
        {"SlidingWindow", window, {.n_threads = 1}},
        {"EightBits", wide, {.n_threads = 1}, CacheType::q8_0},
        {"FiveBits", wide, {.n_threads = 1}, CacheType::q5_0},
        {"FourBits", wide, {.n_threads = 1}, CacheType::q4_0},
    };
}

class Copies : public ::testing::TestWithParam<Shape> {
  protected:
    Model model_ = Model::load(test::write_tiny_model(GetParam().model), GetParam().params);
    SessionParams session_{.n_predict = 5, .cache_type_k = GetParam().cache, .cache_type_v = GetParam().cache};
};

TEST_P(Copies, GoOnBitForBit) {
    const auto prompt = random_tokens(model_, 150, 2), turn = random_tokens(model_, 20, 3);
    for (const Variant& variant : test::variants()) {
        SCOPED_TRACE(variant.name);
        for (const int n_decoded : {0, 45}) {
            Session session(model_, variant.params(), session_);
            session.prefill(prompt);
            for (int i = 0; i < n_decoded; ++i) session.decode(best(session.logits()));
            if (n_decoded == 45) session.extend(turn);
            Session fork = session.fork(3), loaded = saved_and_loaded(model_, session, session_);
            expect_same_state(session, fork);
            expect_same_state(session, loaded);
            Session again = session.fork(3);
            expect_same_answers(session, fork, 20);
            expect_same_answers(again, loaded, 20);
            expect_same_state(session, loaded);
            session.extend(turn);
            loaded.extend(turn);
            EXPECT_EQ(logits_of(session), logits_of(loaded));
        }
    }
}

TEST_P(Copies, RewindToWhatTheyWere) {
    const auto prompt = random_tokens(model_, 150, 2), turn = random_tokens(model_, 20, 3);
    for (const Variant& variant : test::variants()) {
        SCOPED_TRACE(variant.name);
        Session fresh(model_, variant.params(), session_);
        fresh.prefill(prompt);
        Session session = fresh.fork(5);
        for (int i = 0; i < 10; ++i) session.decode(best(session.logits()));
        if (variant.evicts) {
            EXPECT_EQ(session.rewindable_to(), 160);
            EXPECT_THROW(session.rewind(155), Error);
            continue;
        }
        EXPECT_LE(session.rewindable_to(), 150);
        session.rewind(155);
        EXPECT_TRUE(session.logits().empty());
        session.rewind(150);
        expect_same_state(fresh, session);
        expect_same_answers(fresh, session, 10);
        session.extend(turn);
        session.decode(7);
        session.rewind(180);
        EXPECT_FALSE(session.logits().empty());
        EXPECT_THROW(session.rewind(session.rewindable_to() - 1), Error);
        EXPECT_THROW(session.rewind(181), Error);
    }
}

INSTANTIATE_TEST_SUITE_P(OnEveryShape, Copies, ::testing::ValuesIn(shapes()),
                         [](const auto& shape) { return std::string(shape.param.name); });

// ---- one model --------------------------------------------------------------------------------------------------

const Model& model() {
    static const Model loaded = Model::load(test::write_tiny_model({}), {.n_threads = 1});
    return loaded;
}

Session read_session(const MethodParams& method = {}, int n_prompt = 150) {
    Session session(model(), method);
    session.prefill(random_tokens(model(), n_prompt));
    session.decode(9);
    return session;
}

TEST(Rewinding, AFullCacheGoesBackIntoItsPrompt) {
    const auto tokens = random_tokens(model(), 200);
    Session session(model(), {.method = "fullkv"});
    session.prefill(tokens);
    EXPECT_EQ(session.rewindable_to(), 1);
    session.rewind(80);
    EXPECT_EQ(session.n_prompt(), 80);
    EXPECT_EQ(session.layers()[0].kept[0].size(), 80u);
    Session other(model(), {.method = "fullkv"});
    other.prefill(std::span(tokens).first(80));
    for (Session* s : {&session, &other}) s->extend(std::span(tokens).subspan(80, 40));
    EXPECT_LT(test::largest_difference(session.logits(), other.logits()), 1e-4);
    EXPECT_EQ(session.cached_positions(1, 0), other.cached_positions(1, 0));
}

TEST(Rewinding, ACacheThatWasCutAgainGoesBackToThere) {
    Session session = read_session({.method = "snapkv"});
    const auto turn = random_tokens(model(), 60, 4);
    session.extend(turn, /*recompress=*/true);
    session.decode(5);
    EXPECT_EQ(session.rewindable_to(), 211);
    session.rewind(211);
    EXPECT_EQ(session.logits().size(), size_t(model().hparams().n_vocab));
}

TEST(SessionFile, SaysWhatItHolds) {
    const std::string path = test::new_folder(".sessions") + "/one";
    const Session session = read_session({.method = "snapkv", .retain_rate = 0.3});
    session.save(path, "a note");
    const SessionFileInfo info = inspect_session(path);
    EXPECT_EQ(info.model_hash, model().hash());
    EXPECT_EQ(info.note, "a note");
    EXPECT_EQ(method_text(info.method), method_text(session.method()));
    EXPECT_TRUE(std::ranges::equal(info.tokens, session.tokens()));
    EXPECT_LT(double(session.bytes()), double(fs::file_size(path)));
    EXPECT_LT(double(fs::file_size(path)), 1.2 * double(session.bytes()) + 20000);
}

// ---- what is refused --------------------------------------------------------------------------------------------

TEST(SessionFile, OfSomethingElseIsRefusedWithTheReason) {
    const std::string folder = test::new_folder(".sessions"), path = folder + "/one";
    read_session().save(path);
    const auto reason = [&](const Model& other, const SessionParams& params = {}) {
        return message_of([&] { Session::load(other, path, params); });
    };
    TinyModel reseeded;
    reseeded.seed = 2;
    const Model other = Model::load(test::write_tiny_model(reseeded), {.n_threads = 1});
    EXPECT_THAT(reason(other), AllOf(HasSubstr(path), HasSubstr("another model")));
    EXPECT_THAT(reason(model(), {.n_ctx = 100}), AllOf(HasSubstr(path), HasSubstr("context")));
    EXPECT_THAT(reason(model(), {.cache_type_k = CacheType::f32}), AllOf(HasSubstr(path), HasSubstr("-ctk")));

    std::string content = test::read_file(path);
    content[8] = 9;
    test::write_file(path, content);
    EXPECT_THAT(reason(model()), AllOf(HasSubstr("format 9"), HasSubstr(version())));
    test::write_file(path, std::string(100, 'x'));
    EXPECT_THAT(reason(model()), HasSubstr("no session"));
    test::write_file(path, "");
    EXPECT_THAT(reason(model()), HasSubstr("too short"));
    fs::remove(path);
    EXPECT_THAT(reason(model()), HasSubstr("No such file"));
    EXPECT_THAT(message_of([&] { Session::load(model(), folder); }), HasSubstr(folder));
    const Session empty(model(), {});
    EXPECT_THROW(empty.save(path), Error);
    EXPECT_THROW(empty.fork(1), Error);
}

TEST(SessionFile, DamagedAnywhereIsRefused) {
    const std::string path = test::new_folder(".sessions") + "/one";
    std::mt19937 random(1);
    for (const char* method : {"fastkv", "h2o", "pyramidinfer"}) {
        read_session({.method = method}).save(path);
        const std::string whole = test::read_file(path);
        for (int i = 0; i < 300; ++i) {
            std::string damaged = whole;
            if (i % 3 == 0) {
                damaged.resize(random() % whole.size());
            } else if (i % 3 == 1) {
                damaged[random() % whole.size()] ^= char(1 << random() % 8);
            } else {
                damaged += char(random());
                std::swap(damaged[random() % 400], damaged.back());
            }
            if (damaged == whole) continue;
            const auto bytes = std::as_bytes(std::span(damaged));
            ASSERT_THAT(message_of([&] { Session::from_bytes(model(), bytes, "file.session"); }),
                        HasSubstr("file.session: "))
                << method << " " << i;
        }
    }
}

// What somebody has made on purpose may be any session, but must be one, or refused.
TEST(SessionFile, WithRightChecksumsButWrongContentsDoesNoHarm) {
    const std::string path = test::new_folder(".sessions") + "/one";
    std::mt19937 random(1);
    int n_accepted = 0, n_refused = 0;
    for (const Variant& variant : test::variants()) {
        if (variant.name != "FastKv" && variant.name != "SnapKvHeadFloor" && variant.name != "GemFilter" &&
            !variant.evicts) {
            continue;
        }
        MethodParams method = variant.params();
        if (method.tsp_layer) method.tsp_layer = 1;  // of three layers
        read_session(method).save(path);
        const std::string whole = test::read_file(path);
        for (int i = 0; i < 35; ++i) {
            std::string changed = whole;
            for (unsigned n = 1 + random() % 3; n > 0; --n) {
                // most of the file is rows; its numbers stand before and between them
                const size_t range = random() % 2 ? changed.size() : std::min<size_t>(changed.size(), 6000);
                const size_t at = 64 + random() % (range - 64);
                changed[at] = char(random() % 4 ? random() : 0);
            }
            const std::span bytes = std::as_writable_bytes(std::span(changed));
            seal_session_file(bytes);
            try {
                Session session = Session::from_bytes(model(), bytes, "file");
                for (int t = 0; t < 40; ++t) session.decode(Token(20 + t));
                session.extend(random_tokens(model(), 5));
                ++n_accepted;
            } catch (const Error& error) {
                ASSERT_THAT(error.what(), AllOf(HasSubstr("file"))) << variant.name;
                ++n_refused;
            }
        }
    }
    EXPECT_GT(n_accepted, 50);
    EXPECT_GT(n_refused, 50);
}

TEST(SessionFile, ThatCannotBeWrittenLeavesTheOldOne) {
    const std::string folder = test::new_folder(".sessions"), path = folder + "/one";
    const Session small = read_session({}, 30), large = read_session({.method = "fullkv"}, 1000);
    small.save(path);
    const std::string before = test::read_file(path);
    {
        const test::FileSizeLimit limit(before.size() + 1000);
        EXPECT_THAT(message_of([&] { large.save(path); }), AllOf(HasSubstr(path), HasSubstr("too large")));
    }
    EXPECT_EQ(test::read_file(path), before);
    EXPECT_EQ(std::distance(fs::directory_iterator(folder), {}), 1);
    large.save(path);
    EXPECT_EQ(Session::load(model(), path).n_prompt(), 1000);
    EXPECT_THAT(message_of([&] { small.save("/nowhere/at/all"); }), HasSubstr("/nowhere/at/all: cannot write"));
}

}  // namespace
}  // namespace fastkv
