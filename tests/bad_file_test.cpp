// Files that are not what they should be: each one is refused in one line that names it, or works; none
// crashes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <random>

#include "fastkv/error.h"
#include "fastkv/model.h"
#include "model/gguf_file.h"
#include "support/tiny_model.h"

namespace fastkv {
namespace {

using test::read_file;
using test::temporary_path;
using test::TinyModel;
using test::write_file;
using test::write_tiny_model;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

/// What loading says, after checking that it is one line, a failure and names the file. Empty if the model
/// loads.
std::string load_error(const std::string& path, const ModelParams& params = {}) {
    try {
        Model::load(path, params);
        return "";
    } catch (const Error& error) {
        const std::string message = error.what();
        EXPECT_EQ(error.kind(), ErrorKind::failure) << message;
        EXPECT_EQ(message.find('\n'), std::string::npos) << message;
        EXPECT_THAT(message, HasSubstr(path));
        return message;
    }
}

std::string load_error(const TinyModel& tiny) { return load_error(write_tiny_model(tiny)); }

/// The error for a file of this content.
std::string content_error(const std::string& content) {
    const std::string path = temporary_path(".gguf");
    write_file(path, content);
    const std::string error = load_error(path);
    std::filesystem::remove(path);
    return error;
}

/// A tiny model whose keys were edited.
TinyModel with_keys(std::function<void(gguf_context*)> edit, const std::string& arch = "llama") {
    TinyModel tiny;
    tiny.arch = arch;
    tiny.edit_keys = std::move(edit);
    return tiny;
}

TinyModel without_tensor(const std::string& name) {
    TinyModel tiny;
    tiny.edit_tensor = [name](const std::string& each, std::vector<int64_t>&, ggml_type&) { return each != name; };
    return tiny;
}

TinyModel with_shape(const std::string& name, std::vector<int64_t> shape) {
    TinyModel tiny;
    tiny.edit_tensor = [=](const std::string& each, std::vector<int64_t>& ne, ggml_type&) {
        if (each == name) ne = shape;
        return true;
    };
    return tiny;
}

TinyModel with_type(const std::string& name, ggml_type wanted) {
    TinyModel tiny;
    tiny.edit_tensor = [=](const std::string& each, std::vector<int64_t>&, ggml_type& type) {
        if (each == name) type = wanted;
        return true;
    };
    return tiny;
}

template <class T>
void put(std::string& content, size_t offset, T value) {
    ASSERT_LE(offset + sizeof value, content.size());
    std::memcpy(content.data() + offset, &value, sizeof value);
}

/// Offset of what follows a string in the header: its 8-byte length and its bytes are searched.
size_t after(const std::string& content, const std::string& text) {
    std::string stored(8, '\0');
    const uint64_t length = text.size();
    std::memcpy(stored.data(), &length, 8);
    stored += text;
    const size_t at = content.find(stored);
    EXPECT_NE(at, std::string::npos) << text;
    return at + stored.size();
}

/// Bytes before the tensor data.
size_t header_size(const std::string& path) {
    const GgufFile file(path);
    size_t first = file.size();
    file.for_each_tensor([&](const ggml_tensor& t) {
        const auto* start = static_cast<const char*>(file.mapping());
        first = std::min(first, static_cast<size_t>(static_cast<const char*>(file.tensor_data(t.name)) - start));
    });
    return first;
}

// ---- Not a GGUF at all ----

TEST(BadFile, IsNotThere) {
    EXPECT_THAT(load_error(temporary_path(".gguf")), HasSubstr("no such file"));
    EXPECT_THAT(load_error(temporary_path("/deep/er.gguf")), HasSubstr("no such file"));
}

TEST(BadFile, IsADirectory) { EXPECT_THAT(load_error(test::temporary_folder()), HasSubstr("is a directory")); }

TEST(BadFile, IsADevice) { EXPECT_THAT(load_error("/dev/null"), HasSubstr("not a regular file")); }

TEST(BadFile, IsEmpty) { EXPECT_THAT(content_error(""), HasSubstr("the file is empty")); }

TEST(BadFile, IsSomethingElse) {
    EXPECT_THAT(content_error("Call me Ishmael."), HasSubstr("not a GGUF file"));
    EXPECT_THAT(content_error("GG"), HasSubstr("not a GGUF file"));
    EXPECT_THAT(content_error("ggjt" + std::string(100, '\1')), HasSubstr("not a GGUF file"));
}

TEST(BadFile, HasAnotherVersion) {
    std::string content = read_file(write_tiny_model({}));
    for (uint32_t version : {0u, 1u, 4u, 1000u}) {
        put(content, 4, version);
        EXPECT_THAT(content_error(content), HasSubstr("GGUF version " + std::to_string(version) + " is not supported"));
    }
    put(content, 4, 0x03000000u);
    EXPECT_THAT(content_error(content), HasSubstr("byte order"));
}

TEST(BadFile, IsOnePartOfSeveral) {
    EXPECT_THAT(load_error(with_keys([](gguf_context* g) { gguf_set_val_u16(g, "split.count", 3); })),
                AllOf(HasSubstr("split over several files"), HasSubstr("merge")));
    EXPECT_EQ(load_error(with_keys([](gguf_context* g) { gguf_set_val_u16(g, "split.count", 1); })), "");
}

// ---- Truncated ----

TEST(BadFile, IsTruncatedAnywhere) {
    const std::string path = write_tiny_model({});
    const std::string content = read_file(path);
    const size_t header = header_size(path);
    std::vector<size_t> lengths;
    for (size_t n = 4; n < 64; ++n) lengths.push_back(n);
    for (size_t n = 64; n < header; n += 97) lengths.push_back(n);
    for (size_t n : {header - 1, header, header + 1, (header + content.size()) / 2, content.size() - 1}) {
        lengths.push_back(n);
    }
    for (size_t n : lengths) {
        const std::string error = content_error(content.substr(0, n));
        // The last tensor's padding may be missing, nothing else.
        if (error.empty()) {
            EXPECT_GT(n + 32, content.size());
        } else {
            EXPECT_THAT(error, HasSubstr("truncated")) << n;
        }
    }
    EXPECT_THAT(content_error(content.substr(0, header + 100)), HasSubstr("lies past the end of the file"));
}

// ---- Damaged ----

TEST(BadFile, HasAbsurdCounts) {
    const std::string content = read_file(write_tiny_model({}));
    const int64_t counts[] = {-1, int64_t{1} << 20, int64_t{1} << 40, std::numeric_limits<int64_t>::max(),
                              std::numeric_limits<int64_t>::min()};
    for (int64_t count : counts) {
        for (size_t offset : {8, 16, 24}) {  // tensors, keys, length of the first key
            std::string bad = content;
            put(bad, offset, count);
            EXPECT_THAT(content_error(bad), Not("")) << offset << " " << count;
        }
        std::string bad = content;
        put(bad, after(bad, "tokenizer.ggml.tokens") + 8, count);  // past the two types
        EXPECT_THAT(content_error(bad), Not("")) << count;
    }
}

TEST(BadFile, HasShapesThatOverflow) {
    // The last tensor, so that no offset after it gives the damage away.
    TinyModel tiny;
    tiny.rope_freqs = true;
    tiny.edit_tensor = [](const std::string& name, std::vector<int64_t>& ne, ggml_type&) {
        if (name == "rope_freqs.weight") ne = {2, 2, 2, 2};
        return true;
    };
    const std::string content = read_file(write_tiny_model(tiny));
    const size_t at = after(content, "rope_freqs.weight");
    constexpr int64_t big = std::numeric_limits<int64_t>::max();
    const int64_t shapes[][4] = {{big, 0, 2, 1}, {0, big, 2, 1}, {1, big, 1, 1},       {big, 1, 1, 1},
                                 {0, 0, 0, 0},   {-1, 2, 2, 2},  {big, big, big, big}, {1 << 20, 1 << 20, 1 << 20, 8}};
    for (const auto& shape : shapes) {
        for (int32_t type : {GGML_TYPE_F32, GGML_TYPE_I8}) {
            std::string bad = content;
            for (size_t i = 0; i < 4; ++i) put(bad, at + 4 + 8 * i, shape[i]);
            put(bad, at + 36, type);
            EXPECT_THAT(content_error(bad), Not("")) << shape[0] << " " << shape[1];
        }
    }
}

TEST(BadFile, HasAWrongAlignment) {
    for (uint32_t alignment : {0u, 3u, 48u}) {
        TinyModel tiny = with_keys([](gguf_context* g) { gguf_set_val_u32(g, "general.alignment", 32); });
        std::string content = read_file(write_tiny_model(tiny));
        put(content, after(content, "general.alignment") + 4, alignment);
        EXPECT_THAT(content_error(content), HasSubstr("alignment")) << alignment;
    }
}

TEST(BadFile, HasKeysOfAnotherType) {
    const std::pair<const char*, const char*> cases[] = {
        {"general.architecture", "a string"},         {"general.name", "a string"},
        {"tokenizer.ggml.model", "a string"},         {"tokenizer.ggml.tokens", "an array of strings"},
        {"llama.block_count", "an integer"},          {"llama.embedding_length", "an integer"},
        {"llama.attention.head_count", "an integer"}, {"llama.attention.sliding_window", "an integer"},
    };
    for (const auto& [key, wanted] : cases) {
        const auto edit = [k = key](gguf_context* g) {
            gguf_remove_key(g, k);
            gguf_set_val_f32(g, k, 2);
        };
        EXPECT_THAT(load_error(with_keys(edit)),
                    AllOf(HasSubstr(std::string("key ") + key), HasSubstr(wanted), HasSubstr("f32")));
    }
    for (const char* key : {"llama.rope.freq_base", "llama.attention.layer_norm_rms_epsilon"}) {
        const auto edit = [=](gguf_context* g) {
            gguf_remove_key(g, key);
            gguf_set_val_str(g, key, "many");
        };
        EXPECT_THAT(load_error(with_keys(edit)), AllOf(HasSubstr(key), HasSubstr("a real number but is str")));
    }
}

// ---- Models that are not supported, or not possible ----

TEST(BadFile, IsOfAnotherArchitecture) {
    const auto edit = [](gguf_context* g) { gguf_set_val_str(g, "general.architecture", "mamba"); };
    EXPECT_THAT(load_error(with_keys(edit)), AllOf(HasSubstr("\"mamba\""), HasSubstr("llama and qwen2")));
}

TEST(BadFile, LacksKeys) {
    for (const char* key :
         {"general.architecture", "llama.block_count", "llama.embedding_length", "llama.context_length",
          "llama.feed_forward_length", "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon",
          "tokenizer.ggml.model", "tokenizer.ggml.tokens"}) {
        const auto edit = [=](gguf_context* g) { gguf_remove_key(g, key); };
        EXPECT_THAT(load_error(with_keys(edit)), AllOf(HasSubstr(key), HasSubstr("missing")));
    }
}

TEST(BadFile, HasImpossibleNumbers) {
    const std::pair<const char*, uint32_t> cases[] = {
        {"llama.block_count", 0},
        {"llama.block_count", 4000000000u},
        {"llama.embedding_length", 0},
        {"llama.embedding_length", 0x80000000u},
        {"llama.context_length", 0},
        {"llama.context_length", 0xffffffffu},
        {"llama.feed_forward_length", 0},
        {"llama.attention.head_count", 0},
        {"llama.attention.head_count", 1 << 30},
        {"llama.attention.head_count", 3},  // not a multiple of head_count_kv
        {"llama.attention.head_count_kv", 0},
        {"llama.attention.head_count_kv", 3},
        {"llama.attention.key_length", 8},  // differs from value_length
        {"llama.attention.key_length", 0},
        {"llama.rope.dimension_count", 7},
        {"llama.rope.dimension_count", 18},
        {"llama.expert_count", 8},
        {"llama.attention.sliding_window", 0xffffffffu},
    };
    for (const auto& [key, value] : cases) {
        const auto edit = [k = key, v = value](gguf_context* g) { gguf_set_val_u32(g, k, v); };
        EXPECT_THAT(load_error(with_keys(edit)), HasSubstr("llama.")) << key << " = " << value;
    }
    const auto wide = [](gguf_context* g) { gguf_set_val_u64(g, "llama.block_count", ~uint64_t{0}); };
    EXPECT_THAT(load_error(with_keys(wide)), HasSubstr("key llama.block_count is out of range"));
    for (float value : {-1.0f, 0.0f, std::numeric_limits<float>::infinity(), std::nanf("")}) {
        const auto theta = [=](gguf_context* g) { gguf_set_val_f32(g, "llama.rope.freq_base", value); };
        EXPECT_THAT(load_error(with_keys(theta)), HasSubstr("key llama.rope.freq_base")) << value;
    }
    const auto epsilon = [](gguf_context* g) { gguf_set_val_f32(g, "llama.attention.layer_norm_rms_epsilon", -1e-5f); };
    EXPECT_THAT(load_error(with_keys(epsilon)), HasSubstr("layer_norm_rms_epsilon"));
    const auto both = [](gguf_context* g) {
        gguf_set_val_u32(g, "llama.attention.key_length", 15);
        gguf_set_val_u32(g, "llama.attention.value_length", 15);
    };
    EXPECT_THAT(load_error(with_keys(both)), HasSubstr("odd"));
    const auto layers = [](gguf_context* g) {
        const int32_t counts[] = {2, 1, 2};
        gguf_set_arr_data(g, "llama.attention.head_count_kv", GGUF_TYPE_INT32, counts, 3);
    };
    EXPECT_THAT(load_error(with_keys(layers)), HasSubstr("differs between layers"));
}

TEST(BadFile, NeedsAnotherRotation) {
    for (const char* type : {"yarn", "longrope", "dynamic"}) {
        const auto edit = [=](gguf_context* g) { gguf_set_val_str(g, "llama.rope.scaling.type", type); };
        EXPECT_THAT(load_error(with_keys(edit)),
                    AllOf(HasSubstr(std::string("\"") + type), HasSubstr("none and linear")));
    }
    const auto factor = [](gguf_context* g) { gguf_set_val_f32(g, "llama.rope.scaling.attn_factor", 2); };
    EXPECT_THAT(load_error(with_keys(factor)), HasSubstr("attn_factor"));
}

TEST(BadFile, LacksTensors) {
    for (const char* name :
         {"token_embd.weight", "output_norm.weight", "blk.0.attn_norm.weight", "blk.1.attn_q.weight",
          "blk.2.attn_k.weight", "blk.0.attn_v.weight", "blk.0.attn_output.weight", "blk.2.ffn_norm.weight",
          "blk.1.ffn_gate.weight", "blk.0.ffn_up.weight", "blk.2.ffn_down.weight"}) {
        EXPECT_THAT(load_error(without_tensor(name)), HasSubstr(std::string("tensor ") + name + " is missing"));
    }
    TinyModel biased = without_tensor("blk.1.attn_k.bias");
    biased.qkv_bias = true;
    EXPECT_THAT(load_error(biased), HasSubstr("tensor blk.1.attn_k.bias is missing"));
    EXPECT_EQ(load_error(without_tensor("output.weight")), "") << "then it is tied";
}

TEST(BadFile, HasTensorsOfAnotherShape) {
    EXPECT_THAT(load_error(with_shape("blk.1.attn_k.weight", {64, 64})),
                AllOf(HasSubstr("tensor blk.1.attn_k.weight"), HasSubstr("[64, 64]"), HasSubstr("[64, 32]")));
    EXPECT_THAT(load_error(with_shape("blk.0.ffn_norm.weight", {63})), AllOf(HasSubstr("[63]"), HasSubstr("[64]")));
    EXPECT_THAT(load_error(with_shape("output.weight", {64, 319})), HasSubstr("output.weight"));
    EXPECT_THAT(load_error(with_shape("blk.0.attn_q.weight", {64, 64, 2})), HasSubstr("[64, 64, 2]"));
    EXPECT_THAT(load_error(with_shape("token_embd.weight", {64, 321})), HasSubstr("token_embd.weight"));
    TinyModel factors = with_shape("rope_freqs.weight", {16});
    factors.rope_freqs = true;
    EXPECT_THAT(load_error(factors), AllOf(HasSubstr("rope_freqs.weight"), HasSubstr("[8]")));
}

TEST(BadFile, HasTensorsOfAnotherType) {
    EXPECT_THAT(load_error(with_type("blk.0.attn_q.weight", GGML_TYPE_I32)),
                AllOf(HasSubstr("tensor blk.0.attn_q.weight has type i32"), HasSubstr("q4_K"), HasSubstr("f16"),
                      HasSubstr("iq4_nl"), Not(HasSubstr(" i8"))));
    EXPECT_THAT(load_error(with_type("blk.2.attn_norm.weight", GGML_TYPE_I8)), HasSubstr("has type i8"));
    std::string content = read_file(write_tiny_model({}));
    const size_t type_at = after(content, "blk.1.ffn_up.weight") + 4 + 2 * 8;
    for (int32_t type : {4, 36, 1000, -1}) {  // removed from ggml, unknown, impossible
        put(content, type_at, type);
        EXPECT_THAT(content_error(content), HasSubstr("blk.1.ffn_up.weight")) << type;
    }
}

TEST(BadFile, HasTensorsNobodyUses) {
    TinyModel tiny = with_shape("blk.2.attn_q.weight", {64, 64});
    tiny.n_layer = 3;
    tiny.edit_keys = [](gguf_context* g) { gguf_set_val_u32(g, "llama.block_count", 2); };
    EXPECT_THAT(load_error(tiny), HasSubstr("tensor blk.2."));
}

// ---- Vocabularies ----

std::vector<std::string> tokens_of(const gguf_context* g) {
    const int64_t id = gguf_find_key(g, "tokenizer.ggml.tokens");
    std::vector<std::string> tokens(gguf_get_arr_n(g, id));
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = gguf_get_arr_str(g, id, i);
    return tokens;
}

void set_tokens(gguf_context* g, const std::vector<std::string>& tokens) {
    std::vector<const char*> pointers;
    for (const std::string& token : tokens) pointers.push_back(token.c_str());
    gguf_set_arr_str(g, "tokenizer.ggml.tokens", pointers.data(), pointers.size());
}

TEST(BadVocabulary, IsOfAnotherKind) {
    for (const char* kind : {"bert", "t5", "rwkv", "no_vocab", "plamo2", "test", ""}) {
        const auto edit = [=](gguf_context* g) { gguf_set_val_str(g, "tokenizer.ggml.model", kind); };
        EXPECT_THAT(load_error(with_keys(edit)), HasSubstr("llama and gpt2"));
    }
    const auto pre = [](gguf_context* g) { gguf_set_val_str(g, "tokenizer.ggml.pre", "from-the-future"); };
    EXPECT_THAT(load_error(with_keys(pre, "qwen2")), HasSubstr("from-the-future"));
}

TEST(BadVocabulary, HasTokensTwiceOrTooFew) {
    const auto twice = [](gguf_context* g) {
        auto tokens = tokens_of(g);
        tokens[300] = tokens[20];
        set_tokens(g, tokens);
    };
    EXPECT_THAT(load_error(with_keys(twice)), HasSubstr("token 300 is there twice"));
    const auto empties = [](gguf_context* g) {
        auto tokens = tokens_of(g);
        tokens[301] = "";
        tokens[302] = "[EMPTY_301]";  // what libllama calls an empty token
        set_tokens(g, tokens);
    };
    EXPECT_THAT(load_error(with_keys(empties)), HasSubstr("token 302 is there twice"));
    for (size_t n : {0, 1, 319, 321}) {
        const auto resize = [=](gguf_context* g) {
            auto tokens = tokens_of(g);
            tokens.resize(n, "one more");
            set_tokens(g, tokens);
        };
        EXPECT_THAT(load_error(with_keys(resize)), AllOf(HasSubstr(std::to_string(n) + " tokens"), HasSubstr("320")));
    }
}

TEST(BadVocabulary, HasArraysThatDoNotFit) {
    const auto scores = [](gguf_context* g) {
        const float few[] = {1, 2, 3};
        gguf_set_arr_data(g, "tokenizer.ggml.scores", GGUF_TYPE_FLOAT32, few, 3);
    };
    const auto types = [](gguf_context* g) {
        const int32_t few[] = {1, 2, 3};
        gguf_set_arr_data(g, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, few, 3);
    };
    const auto score_type = [](gguf_context* g) { gguf_set_val_str(g, "tokenizer.ggml.scores", "high"); };
    for (const auto& edit : std::vector<std::function<void(gguf_context*)>>{scores, types, score_type}) {
        EXPECT_THAT(load_error(with_keys(edit)), HasSubstr("cannot read the vocabulary"));
    }
    const auto merges = [](gguf_context* g) { gguf_remove_key(g, "tokenizer.ggml.merges"); };
    EXPECT_THAT(load_error(with_keys(merges, "qwen2")), HasSubstr("merges"));
}

TEST(BadVocabulary, WantsABeginningItDoesNotHave) {
    TinyModel tiny = with_keys(
        [](gguf_context* g) {
            set_tokens(g, {"a", "b", "c"});
            gguf_remove_key(g, "tokenizer.ggml.bos_token_id");
            gguf_set_val_bool(g, "tokenizer.ggml.add_bos_token", true);
        },
        "qwen2");
    tiny.edit_tensor = [](const std::string& name, std::vector<int64_t>& ne, ggml_type&) {
        if (name == "token_embd.weight" || name == "output.weight") ne[1] = 3;
        return true;
    };
    EXPECT_THAT(load_error(tiny), HasSubstr("add_bos_token"));
}

TEST(BadVocabulary, HasNoTokensForBytes) {
    const auto edit = [](gguf_context* g) {
        auto tokens = tokens_of(g);
        for (size_t i = 3; i < 259; ++i) tokens[i] = "gone" + std::to_string(i);
        set_tokens(g, tokens);
        gguf_remove_key(g, "tokenizer.ggml.token_type");
    };
    const Model model = Model::load(write_tiny_model(with_keys(edit)));
    EXPECT_NO_THROW(model.tokenize("hello", false, false));
    try {
        model.tokenize("4 €", false, false);
        ADD_FAILURE() << "there is no token for it";
    } catch (const Error& error) {
        EXPECT_THAT(error.what(), HasSubstr("cannot express the text"));
    }
}

// ---- Any damage ----

/// Changes a few bytes of the header, or cuts the file, as `random` says.
std::string damage(const std::string& content, size_t header, std::mt19937& random) {
    const auto below = [&](size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(random); };
    std::string bad = content;
    const size_t n_changes = 1 + below(3);
    for (size_t i = 0; i < n_changes; ++i) {
        const size_t at = below(header);
        switch (below(6)) {
            case 0: bad[at] = static_cast<char>(bad[at] ^ (1 << below(8))); break;
            case 1: bad[at] = static_cast<char>(below(256)); break;
            case 2: bad.replace(at, std::min<size_t>(8, header - at), std::min<size_t>(8, header - at), '\xff'); break;
            case 3: bad.replace(at, std::min<size_t>(4, header - at), std::min<size_t>(4, header - at), '\0'); break;
            case 4: std::swap(bad[at], bad[below(header)]); break;
            default:
                if (i + 1 == n_changes) bad.resize(below(bad.size()));
        }
    }
    return bad;
}

class Damage : public testing::TestWithParam<const char*> {};

TEST_P(Damage, NeverCrashes) {
    TinyModel tiny;
    tiny.arch = GetParam();
    tiny.n_layer = 1;
    tiny.qkv_bias = tiny.rope_freqs = true;
    const std::string good_path = write_tiny_model(tiny);
    const std::string content = read_file(good_path);
    const size_t header = header_size(good_path);
    const std::string path = temporary_path(".gguf");

    const char* wanted = std::getenv("FASTKV_TEST_DAMAGES");  // for a longer search
    const int n = wanted ? std::atoi(wanted) : 300;
    const char* seed = std::getenv("FASTKV_TEST_SEED");
    std::mt19937 random(seed ? static_cast<uint32_t>(std::atoi(seed)) : 1);
    int n_refused = 0;
    for (int i = 0; i < n; ++i) {
        write_file(path, damage(content, header, random));
        try {
            const Model model = Model::load(path);
            model.detokenize(model.tokenize("The café, 1234\n\n end <|im_end|>", true, true), true);
            const ChatMessage messages[] = {{"user", "Hi"}};
            if (model.has_chat_template()) model.chat_prompt(messages);
        } catch (const Error& error) {
            EXPECT_THAT(error.what(), Not(HasSubstr("\n"))) << "damage " << i;
            ++n_refused;
        }
    }
    EXPECT_GT(n_refused, n / 10) << "the damage should matter";
}

INSTANTIATE_TEST_SUITE_P(Models, Damage, testing::Values("llama", "qwen2"),
                         [](const auto& arch) { return std::string(arch.param); });

}  // namespace
}  // namespace fastkv
