#include "engine/session_file.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "engine/bytes.h"
#include "fastkv/error.h"
#include "fastkv/fastkv.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace fastkv {

namespace {

static_assert(std::endian::native == std::endian::little, "files are little-endian");

constexpr char magic[8] = {'f', 'a', 's', 't', 'k', 'v', 'S', '\n'};

// To be raised with every change of what follows the preamble, and of what a method's state means.
constexpr uint32_t format = 3;

struct Preamble {
    char magic[8];
    uint32_t format = 0;
    uint32_t zero = 0;
    char version[16];  // of fastkv, for messages
    uint64_t head_size = 0;
    uint64_t body_size = 0;
    uint64_t head_sum = 0;  // of the preamble, this being 0, and the head
    uint64_t body_sum = 0;
};
static_assert(sizeof(Preamble) == session_preamble_size && std::is_trivially_copyable_v<Preamble>);

uint64_t head_sum(Preamble preamble, std::span<const std::byte> head) {
    preamble.head_sum = 0;
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, &preamble, sizeof preamble);
    XXH3_64bits_update(&state, head.data(), head.size());
    return XXH3_64bits_digest(&state);
}

// ---- what stands where ------------------------------------------------------------------------------------------

template <class Archive, class Head>
void visit_head(Archive& archive, Head& h) {
    archive(h.model_hash, h.method, h.params, h.type_k, h.type_v, h.tokens, h.rewindable_to, h.note);
}

template <class Archive, class State>
void visit_session(Archive& archive, State& s) {
    archive(s.n_prompt, s.n_past, s.n_chosen, s.n_read, s.restarted, s.row, s.logits, s.read_logits);
}

template <class Archive, class Layer>
void visit_layer(Archive& archive, Layer& l) {
    archive(l.cache.n_head, l.cache.positions, l.cache.k, l.cache.v, l.cache.frame.offset, l.cache.frame.scale,
            l.sink_keys);
    archive(l.report.rows, l.report.cached, l.report.n_head_cached, l.report.kept, l.report.propagated);
}

SessionHead head_of(const SessionState& state, const std::string& model_hash, int rewindable_to,
                    const std::string& note) {
    SessionHead head{.model_hash = model_hash,
                     .method = state.method.method,
                     .params = {},
                     .type_k = int32_t(state.type_k),
                     .type_v = int32_t(state.type_v),
                     .tokens = state.tokens,
                     .rewindable_to = rewindable_to,
                     .note = note};
    for (const ParamInfo& info : list_params()) {
        const std::string text = param_text(state.method, info.name);
        if (!text.empty()) head.params.insert(head.params.end(), {info.name, text});
    }
    return head;
}

uint64_t row_bytes_of(const SessionState& state) {
    uint64_t bytes = 0;
    for (const LayerState& layer : state.layers) bytes += layer.cache.k.size() + layer.cache.v.size();
    return bytes;
}

void write_body(ByteWriter& writer, const SessionState& state) {
    visit_session(writer, state);
    for (const LayerState& layer : state.layers) {
        visit_layer(writer, layer);
        writer(uint8_t{layer.eviction.has_value()});
        if (layer.eviction) writer(layer.eviction->counts, layer.eviction->sums);
    }
}

/// Without the parts that stand in the head.
SessionState state_of_body(std::span<const std::byte> body, int n_layer, const std::string& source) {
    ByteReader reader(body);
    SessionState state;
    visit_session(reader, state);
    for (int i = 0; i < n_layer; ++i) {
        LayerState& layer = state.layers.emplace_back();
        uint8_t evicts = 0;
        visit_layer(reader, layer);
        reader(evicts);
        if (evicts == 0) continue;
        layer.eviction.emplace();
        reader(layer.eviction->counts, layer.eviction->sums);
    }
    if (!reader.at_end()) fail(source + ": its parts have other lengths than they should: it is damaged");
    return state;
}

// ---- the preamble -----------------------------------------------------------------------------------------------

Preamble read_preamble(std::span<const std::byte> bytes, const std::string& source) {
    Preamble preamble;
    if (bytes.size() < sizeof preamble) fail(source + ": too short for a session of fastkv");
    std::memcpy(&preamble, bytes.data(), sizeof preamble);
    if (std::memcmp(preamble.magic, magic, sizeof magic) != 0) fail(source + ": no session of fastkv");
    if (preamble.format != format) {
        const std::string version(preamble.version, strnlen(preamble.version, sizeof preamble.version));
        const bool readable = std::all_of(version.begin(), version.end(), [](char c) { return c > ' ' && c < 127; });
        fail(source + ": was written by fastkv " + (readable ? version : "?") + " in format " +
             std::to_string(preamble.format) + ", this one reads format " + std::to_string(format));
    }
    return preamble;
}

/// [head] as far as `bytes` must have it.
std::span<const std::byte> head_bytes(std::span<const std::byte> bytes, const Preamble& preamble,
                                      const std::string& source) {
    const auto rest = bytes.subspan(sizeof preamble);
    if (preamble.head_size > rest.size()) fail(source + ": is cut short");
    const auto head = rest.first(size_t(preamble.head_size));
    if (head_sum(preamble, head) != preamble.head_sum) fail(source + ": is damaged (its checksum is another)");
    return head;
}

}  // namespace

std::vector<std::byte> session_file(const SessionState& state, const std::string& model_hash, int rewindable_to,
                                    const std::string& note) {
    Preamble preamble{};
    std::memcpy(preamble.magic, magic, sizeof magic);
    preamble.format = format;
    std::strncpy(preamble.version, version(), sizeof preamble.version - 1);

    ByteWriter writer;
    const uint64_t rows = row_bytes_of(state);  // nearly all of the file
    writer.reserve(size_t(rows + rows / 8));
    writer(preamble);
    const SessionHead head = head_of(state, model_hash, rewindable_to, note);
    visit_head(writer, head);
    preamble.head_size = writer.size() - sizeof preamble;
    write_body(writer, state);
    preamble.body_size = writer.size() - sizeof preamble - preamble.head_size;

    std::vector<std::byte> file = writer.take();
    std::memcpy(file.data(), &preamble, sizeof preamble);
    seal_session_file(file);
    return file;
}

void seal_session_file(std::span<std::byte> file) {
    Preamble preamble;
    if (file.size() < sizeof preamble) return;
    std::memcpy(&preamble, file.data(), sizeof preamble);
    const auto rest = file.subspan(sizeof preamble);
    if (preamble.head_size > rest.size()) return;
    const auto body = rest.subspan(size_t(preamble.head_size));
    preamble.body_sum = XXH3_64bits(body.data(), body.size());
    preamble.head_sum = head_sum(preamble, rest.first(size_t(preamble.head_size)));
    std::memcpy(file.data(), &preamble, sizeof preamble);
}

MethodParams SessionHead::method_params(const std::string& source) const {
    MethodParams result{.method = method};
    try {
        for (size_t i = 0; i + 1 < params.size(); i += 2) set_param(result, params[i], params[i + 1]);
    } catch (const Error& error) {
        fail(source + ": " + error.what());
    }
    return result;
}

SessionHead read_session_head(std::span<const std::byte> bytes, const std::string& source) {
    const Preamble preamble = read_preamble(bytes, source);
    ByteReader reader(head_bytes(bytes, preamble, source));
    SessionHead head;
    visit_head(reader, head);
    for (const int32_t type : {head.type_k, head.type_v}) {
        if (type < int32_t(CacheType::f32) || type > int32_t(CacheType::q4_0))
            fail(source + ": has unknown cache types");
    }
    if (!reader.at_end()) fail(source + ": its head has another length than it should: it is damaged");
    return head;
}

SessionState read_session_file(std::span<const std::byte> bytes, const HyperParams& hparams,
                               const std::string& model_hash, const std::string& source) {
    const Preamble preamble = read_preamble(bytes, source);
    SessionHead head = read_session_head(bytes, source);
    const auto body = bytes.subspan(sizeof preamble + size_t(preamble.head_size));
    if (body.size() < preamble.body_size) fail(source + ": is cut short");
    if (body.size() > preamble.body_size) fail(source + ": is longer than it should be");
    if (head.model_hash != model_hash) fail(source + ": is a session of another model");
    if (XXH3_64bits(body.data(), body.size()) != preamble.body_sum) {
        fail(source + ": is damaged (its checksum is another)");
    }
    SessionState state = state_of_body(body, hparams.n_layer, source);
    state.method = head.method_params(source);
    state.type_k = CacheType(head.type_k);
    state.type_v = CacheType(head.type_v);
    state.tokens = std::move(head.tokens);
    check_state(state, hparams, source);
    return state;
}

uint64_t session_head_end(std::span<const std::byte> bytes) {
    Preamble preamble;
    if (bytes.size() < sizeof preamble) return 0;
    std::memcpy(&preamble, bytes.data(), sizeof preamble);
    constexpr uint64_t limit = uint64_t{1} << 30;
    return preamble.head_size < limit ? sizeof preamble + preamble.head_size : 0;
}

}  // namespace fastkv
