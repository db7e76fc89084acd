// Every number of the file is checked here, so that nothing after it can overflow or divide by zero.
#include "model/hparams.h"

#include <cmath>
#include <map>

#include "fastkv/error.h"
#include "ggml.h"

namespace fastkv {

namespace {

// Far above any published model, far below what would overflow a product of three of them in 64 bits.
constexpr int64_t max_layers = 4096;
constexpr int64_t max_width = 1 << 20;
constexpr int64_t max_vocab = 1 << 26;
constexpr int64_t max_context = 1 << 30;

/// Reads keys of one architecture: "llama." + name.
class Reader {
  public:
    Reader(const GgufFile& file, std::string arch) : file_(file), arch_(std::move(arch)) {}

    std::string key(const std::string& name) const { return arch_ + "." + name; }

    int positive(const std::string& name, int64_t limit) const {
        return in_range(name, file_.require_integer(key(name)), 1, limit);
    }
    int positive_or(const std::string& name, int64_t limit, int otherwise) const {
        const auto value = file_.integer(key(name));
        return value ? in_range(name, *value, 1, limit) : otherwise;
    }

    /// A number that some converters write once per layer. Layers that differ are not supported.
    int positive_uniform(const std::string& name, int64_t limit, int n_layer, std::optional<int> otherwise) const {
        if (!file_.is_array(key(name))) {
            return otherwise ? positive_or(name, limit, *otherwise) : positive(name, limit);
        }
        const std::vector<int64_t> values = *file_.integers(key(name));
        if (values.size() != static_cast<size_t>(n_layer)) {
            wrong(name, "has " + std::to_string(values.size()) + " values for " + std::to_string(n_layer) + " layers");
        }
        for (int64_t value : values) {
            if (value != values.front()) wrong(name, "differs between layers, which is not supported");
        }
        return in_range(name, values.front(), 1, limit);
    }

    float real_or(const std::string& name, double otherwise) const {
        const double value = file_.real(key(name)).value_or(otherwise);
        if (!std::isfinite(value)) wrong(name, "is not a finite number");
        return static_cast<float>(value);
    }

    [[noreturn]] void wrong(const std::string& name, const std::string& what) const {
        fail(file_.path() + ": key " + key(name) + " " + what);
    }

    int in_range(const std::string& name, int64_t value, int64_t low, int64_t high) const {
        if (value < low || value > high) {
            wrong(name,
                  "is " + std::to_string(value) + ", outside " + std::to_string(low) + " to " + std::to_string(high));
        }
        return static_cast<int>(value);
    }

  private:
    const GgufFile& file_;
    std::string arch_;
};

void read_attention(const GgufFile& file, const Reader& reader, HyperParams& h) {
    h.n_head = reader.positive_uniform("attention.head_count", max_width, h.n_layer, std::nullopt);
    h.n_head_kv = reader.positive_uniform("attention.head_count_kv", max_width, h.n_layer, h.n_head);
    if (h.n_head % h.n_head_kv != 0) {
        reader.wrong("attention.head_count", "(" + std::to_string(h.n_head) + ") is not a multiple of head_count_kv (" +
                                                 std::to_string(h.n_head_kv) + ")");
    }
    const int default_dim = h.n_embd % h.n_head == 0 ? h.n_embd / h.n_head : 0;
    h.head_dim = reader.positive_or("attention.key_length", max_width, default_dim);
    const int value_dim = reader.positive_or("attention.value_length", max_width, default_dim);
    if (h.head_dim != value_dim) {
        reader.wrong("attention.key_length", "(" + std::to_string(h.head_dim) + ") differs from value_length (" +
                                                 std::to_string(value_dim) + "), which is not supported");
    }
    if (h.head_dim == 0) {
        reader.wrong("embedding_length", "(" + std::to_string(h.n_embd) + ") is not a multiple of head_count (" +
                                             std::to_string(h.n_head) + ") and there is no key_length");
    }
    if (h.head_dim % 2 != 0) {
        fail(file.path() + ": the head size (" + std::to_string(h.head_dim) + ") is odd, rotation needs pairs");
    }
    if (static_cast<int64_t>(h.n_head) * h.head_dim > max_width) {
        reader.wrong("attention.head_count", "times the head size is absurdly large");
    }
    if (const auto window = file.integer(reader.key("attention.sliding_window"))) {
        h.sliding_window = reader.in_range("attention.sliding_window", *window, 0, max_context);
    }
    if (!file.boolean(reader.key("attention.causal")).value_or(true)) {
        reader.wrong("attention.causal", "is false: this is an embedding model, not one that answers");
    }
    h.norm_eps = reader.real_or("attention.layer_norm_rms_epsilon", -1);
    if (h.norm_eps < 0 || h.norm_eps > 1) {
        reader.wrong("attention.layer_norm_rms_epsilon", h.norm_eps == -1 ? "is missing" : "is outside 0 to 1");
    }
}

void read_rope(const GgufFile& file, const Reader& reader, HyperParams& h) {
    h.n_rot = reader.positive_or("rope.dimension_count", max_width, h.head_dim);
    if (h.n_rot > h.head_dim || h.n_rot % 2 != 0) {
        reader.wrong("rope.dimension_count", "is " + std::to_string(h.n_rot) +
                                                 ", not an even number up to the head "
                                                 "size (" +
                                                 std::to_string(h.head_dim) + ")");
    }
    h.rope_theta = reader.real_or("rope.freq_base", 10000);
    if (h.rope_theta <= 0) reader.wrong("rope.freq_base", "is not positive");

    // A factor without a type means linear scaling, as does the older key.
    const std::string type = file.string(reader.key("rope.scaling.type")).value_or("linear");
    if (type != "linear" && type != "none") {
        reader.wrong("rope.scaling.type", "is \"" + type + "\", which is not supported (none and linear are)");
    }
    const float factor = reader.real_or("rope.scaling.factor", reader.real_or("rope.scale_linear", 0));
    if (factor < 0) reader.wrong("rope.scaling.factor", "is negative");
    h.rope_freq_scale = type == "linear" && factor > 0 ? 1 / factor : 1;
    if (reader.real_or("rope.scaling.attn_factor", 1) != 1) {
        reader.wrong("rope.scaling.attn_factor", "other than 1 is not supported");
    }
}

void count_tensors(const GgufFile& file, HyperParams& h) {
    std::map<ggml_type, int64_t> elements;  // of the weight matrices, by type
    file.for_each_tensor([&](const ggml_tensor& t) {
        h.n_params += ggml_nelements(&t);
        h.weights_bytes += ggml_nbytes(&t);
        if (ggml_n_dims(&t) == 2) elements[t.type] += ggml_nelements(&t);
    });
    int64_t most = 0;
    for (const auto& [type, n] : elements) {
        if (n <= most) continue;
        most = n;
        h.file_type = ggml_type_name(type);
    }
    for (char& c : h.file_type) {
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
}

}  // namespace

HyperParams read_hparams(const GgufFile& file) {
    HyperParams h;
    h.arch = file.require_string("general.architecture");
    if (h.arch != "llama" && h.arch != "qwen2") {
        fail(file.path() + ": architecture \"" + h.arch + "\" is not supported (llama and qwen2 are)");
    }
    h.name = file.string("general.name").value_or("");

    const Reader reader(file, h.arch);
    if (file.integer(reader.key("expert_count")).value_or(0) > 0) {
        reader.wrong("expert_count", "says that this is a mixture of experts, which is not supported");
    }
    h.n_layer = reader.positive("block_count", max_layers);
    h.n_embd = reader.positive("embedding_length", max_width);
    h.n_ctx_train = reader.positive("context_length", max_context);
    h.n_ff = reader.positive_uniform("feed_forward_length", max_width, h.n_layer, std::nullopt);
    read_attention(file, reader, h);
    read_rope(file, reader, h);

    const ggml_tensor* embedding = file.tensor("token_embd.weight");
    if (!embedding) fail(file.path() + ": tensor token_embd.weight is missing");
    if (embedding->ne[1] > max_vocab) fail(file.path() + ": tensor token_embd.weight has absurdly many rows");
    h.n_vocab = static_cast<int>(embedding->ne[1]);
    count_tensors(file, h);
    return h;
}

int rope_mode(const HyperParams& hparams) {
    return hparams.arch == "qwen2" ? GGML_ROPE_TYPE_NEOX : GGML_ROPE_TYPE_NORMAL;
}

}  // namespace fastkv
