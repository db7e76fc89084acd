// Any bytes as a session's file: it is refused with an error, or what is made of it holds together, and its evictions
// go on from it without leaving the cache. The first byte chooses: the bytes as they are, or a real file with some of
// them changed and its checksums set right, so that what lies behind them is reached.
#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "engine/session_file.h"
#include "fastkv/error.h"
#include "fastkv/fastkv.h"
#include "methods/registry.h"

const char* fastkv::version() { return "fuzz"; }

namespace {

using namespace fastkv;

void expect(bool holds) {
    if (!holds) std::abort();
}

HyperParams hparams() {
    HyperParams hp;
    hp.arch = "llama";
    hp.n_vocab = 40;
    hp.n_embd = 8;
    hp.n_layer = 2;
    hp.n_head = 4;
    hp.n_head_kv = 2;
    hp.head_dim = 2;
    return hp;
}

std::vector<MethodParams> methods() {
    return {{.method = "fullkv"},
            {.method = "h2o", .budget = 12, .h2o_decode = H2oDecode::evict},
            {.method = "streamingllm", .budget = 12, .streaming = Streaming::rolling},
            {.method = "pyramidinfer", .pyramid_decode = PyramidDecode::guarded},
            {.method = "pyramidinfer", .pyramid_decode = PyramidDecode::reference}};
}

using Positions = std::vector<std::vector<int32_t>>;  // [cached heads][entries]

/// Decodes `n` tokens as the engine does, every query head attending evenly. What leaves must be there.
void decode(Eviction& eviction, Positions& positions, int position, int n) {
    const size_t n_group = size_t(hparams().n_head) / positions.size();
    for (const int end = position + n; position < end; ++position) {
        std::vector<std::vector<float>> attention;
        for (auto& head : positions) {
            head.push_back(position);
            const std::vector<float> row(head.size(), 1 / float(head.size()));
            attention.insert(attention.end(), n_group, row);
        }
        if (!eviction.reads_attention()) attention.clear();
        const auto removed = eviction.step(position, attention);
        if (removed.empty()) continue;
        expect(removed.size() == 1 || removed.size() == positions.size());
        for (size_t head = 0; head < positions.size(); ++head) {
            const std::vector<int>& own = removed[removed.size() == 1 ? 0 : head];
            expect(std::is_sorted(own.begin(), own.end()));
            expect(own.empty() || (own.front() >= 0 && own.back() < int(positions[head].size())));
            remove_entries(positions[head], own);
        }
    }
}

/// A session of 24 tokens and an answer of 9.
SessionState real_session(const MethodParams& given) {
    const HyperParams hp = hparams();
    const MethodEntry& method = find_method(given.method);
    SessionState state{.method = method.resolve(given, hp), .n_prompt = 24, .n_past = 33, .n_chosen = 24, .n_read = 24};
    state.tokens.assign(33, 5);
    state.row.resize(size_t(hp.n_embd));
    state.logits = state.read_logits = std::vector<float>(size_t(hp.n_vocab));
    for (int layer = 0; layer < hp.n_layer; ++layer) {
        LayerState& own = state.layers.emplace_back();
        Positions positions(2);
        for (auto& head : positions) {
            for (int32_t p = 0; p < state.n_prompt; ++p) head.push_back(p);
        }
        if (auto eviction = method.eviction ? method.eviction(state.method, hp, layer, state.n_prompt) : nullptr) {
            const int n_row = std::min(eviction->prompt_rows(), state.n_prompt);
            const PromptAttention attention{n_row, state.n_prompt,
                                            std::vector<float>(size_t(n_row * state.n_prompt), 0.1f)};
            eviction->start(positions, attention, std::vector(2, std::vector<float>(24, 0.5f)));
            decode(*eviction, positions, state.n_prompt, 9);
            own.eviction = eviction->state();
        } else {
            for (auto& head : positions) {
                for (int32_t p = 24; p < 33; ++p) head.push_back(p);
            }
        }
        own.cache = {.n_head = 2, .positions = positions, .k = {}, .v = {}};
        own.cache.k.resize(size_t(own.cache.n_entry() * hp.head_dim) * sizeof(uint16_t));
        own.cache.v = own.cache.k;
        own.report = {.rows = 24, .cached = 24, .n_head_cached = 2, .kept = {{0, 1, 2}}, .propagated = {}};
    }
    return state;
}

/// What the engine does with what a file said.
void go_on(const SessionState& state) {
    const HyperParams hp = hparams();
    const MethodEntry& method = find_method(state.method.method);
    const MethodParams params = method.resolve(state.method, hp);
    const int n_start = state.restarted.empty() ? state.n_prompt : int(state.restarted.size());
    for (int layer = 0; layer < hp.n_layer; ++layer) {
        const LayerState& own = state.layers[size_t(layer)];
        expect(own.cache.n_entry() >= 0 && own.cache.k.size() == own.cache.v.size());
        const auto eviction = method.eviction ? method.eviction(params, hp, layer, n_start) : nullptr;
        if (!eviction || !own.eviction) continue;
        Positions positions;
        for (int head = 0; head < own.cache.n_head; ++head) positions.push_back(own.cache.positions_of(head));
        if (eviction->resume(positions, *own.eviction)) decode(*eviction, positions, state.n_past, 40);
    }
}

void read_file(std::span<const std::byte> bytes) {
    try {
        const SessionState state = read_session_file(bytes, hparams(), "the model", "file");
        go_on(state);
    } catch (const Error& error) {
        expect(error.what()[0] != '\0');
    }
}

/// Changes bytes of a real file: of every four of `data` three say where, one what stands there then.
std::vector<std::byte> changed_file(const std::vector<std::byte>& real, std::span<const uint8_t> data) {
    std::vector<std::byte> file = real;
    for (; data.size() >= 4; data = data.subspan(4)) {
        const size_t at = (size_t(data[0]) << 16 | size_t(data[1]) << 8 | data[2]) % file.size();
        file[at] = std::byte{data[3]};
    }
    seal_session_file(file);
    return file;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const std::vector<std::vector<std::byte>> real = [] {
        std::vector<std::vector<std::byte>> files;
        for (const MethodParams& method : methods()) {
            files.push_back(session_file(real_session(method), "the model", 24, "a note"));
            const SessionState back = read_session_file(files.back(), hparams(), "the model", "a real file");
            go_on(back);
        }
        return files;
    }();
    if (size == 0) return 0;
    const std::span rest(data + 1, size - 1);
    if (data[0] % 2 == 0) {
        read_file(std::as_bytes(rest));
    } else {
        read_file(changed_file(real[data[0] / 2 % real.size()], rest));
    }
    return 0;
}
