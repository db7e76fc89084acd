// What decoded tokens attended to in the prompt, as a session records it.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "fastkv/fastkv.h"
#include "support/compare.h"
#include "support/naive_model.h"
#include "support/tiny_model.h"

namespace fastkv {
namespace {

using test::random_tokens;
using test::TinyModel;

constexpr int n_prompt = 150, n_answer = 6;

Model load(const std::string& path, Ops ops) {
    ModelParams params;
    params.compute = Compute::f32;
    params.ops = ops;
    params.n_threads = 2;
    return Model::load(path, params);
}

class RecordedAttention : public ::testing::TestWithParam<Ops> {
  protected:
    std::string file_ = test::write_tiny_model(TinyModel{.n_layer = 4});
    Model model_ = load(file_, GetParam());
    std::vector<Token> text_ = random_tokens(model_.hparams().n_vocab, n_prompt + n_answer, 5);

    /// Reads the prompt and is then told the answer.
    Session teacher_forced(const MethodParams& method, bool record) const {
        Session session(model_, method, {.record_attention = record});
        session.prefill(std::span(text_).first(n_prompt));
        for (const Token token : std::span(text_).subspan(n_prompt)) session.decode(token);
        return session;
    }
};

INSTANTIATE_TEST_SUITE_P(Ops, RecordedAttention, ::testing::Values(Ops::automatic, Ops::standard), [](const auto& at) {
    return at.param == Ops::automatic ? "FastkvsKernels" : "GgmlsOperators";
});

// The answer's tokens look back as a window at the end of one long prompt would.
TEST_P(RecordedAttention, IsWhatANaiveModelAttendsTo) {
    const test::NaiveModel naive(file_, model_.hparams());
    test::NaiveSession whole(naive);
    whole.prefill(text_, std::vector<std::vector<int>>(4));
    const Session session = teacher_forced({.method = "fullkv"}, true);
    for (int layer = 0; layer < 4; ++layer) {
        const Scores wanted = whole.scores(layer, {.n_query = n_answer, .tail = n_answer});
        const auto recorded = session.recorded_attention(layer);
        ASSERT_EQ(recorded.size(), wanted.values.size());
        EXPECT_LT(test::largest_difference(recorded, wanted.values), 1e-3) << "layer " << layer;
    }
}

// Positions are the prompt's, whatever the method did to it, and recording changes no answer.
TEST_P(RecordedAttention, FallsOnWhatTheCacheHolds) {
    for (const char* method : {"fastkv", "snapkv", "streamingllm", "gemfilter", "pyramidinfer"}) {
        const Session session = teacher_forced({.method = method}, true);
        EXPECT_EQ(test::largest_difference(session.logits(), teacher_forced({.method = method}, false).logits()), 0);
        for (int layer = 0; layer < 4; ++layer) {
            const LayerReport& report = session.layers()[size_t(layer)];
            const auto recorded = session.recorded_attention(layer);
            for (int head = 0; head < 4; ++head) {
                const auto row = recorded.subspan(size_t(head) * n_prompt, n_prompt);
                const auto& kept = report.kept_by(head * report.n_head_cached / 4);
                double on_kept = 0;
                for (const int position : kept) on_kept += row[size_t(position)];
                EXPECT_GT(on_kept, 0) << method;
                EXPECT_LT(on_kept, n_answer);
                EXPECT_NEAR(std::accumulate(row.begin(), row.end(), 0.0), on_kept, 1e-5)
                    << method << ", layer " << layer;
            }
        }
    }
}

// Entries that leave are seen before they go.
TEST_P(RecordedAttention, SeesWhatIsEvictedLater) {
    const MethodParams method{.method = "h2o", .budget = 40, .h2o_decode = H2oDecode::evict};
    const Session session = teacher_forced(method, true);
    EXPECT_EQ(test::largest_difference(session.logits(), teacher_forced(method, false).logits()), 0);
    const auto row = session.recorded_attention(0).first(n_prompt);
    const auto left = session.cached_positions(0, 0);
    const auto gone = std::ranges::find_if(session.layers()[0].kept_by(0), [&](int position) {
        return std::ranges::find(left, position) == left.end() && row[size_t(position)] > 0;
    });
    EXPECT_NE(gone, session.layers()[0].kept_by(0).end());
}

TEST_P(RecordedAttention, IsRefusedWhereItCannotBe) {
    EXPECT_THROW((void)teacher_forced({.method = "fullkv"}, false).recorded_attention(0), Error);
    Session uneven(model_, {.method = "fastkv", .head_floor = 0.2}, {.record_attention = true});
    EXPECT_THROW(uneven.prefill(text_), Error);
}

}  // namespace
}  // namespace fastkv
