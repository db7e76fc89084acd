// Which tensors a model has, with which shapes, and where each of them lies: in memory of our own, in the mapped file,
// or on the GPU.
#include "model/weights.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <set>
#include <string>
#include <thread>

#include "fastkv/error.h"
#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "model/memory.h"

namespace fastkv {

void dequantize(ggml_type type, const void* from, float* to, int64_t n) {
    if (type == GGML_TYPE_F32) {
        std::memcpy(to, from, static_cast<size_t>(n) * sizeof(float));
    } else {
        ggml_get_type_traits(type)->to_float(from, to, n);
    }
}

namespace {

constexpr size_t data_alignment = 32;  // GGUF's default; ggml's kernels and buffers expect it

struct GgmlFree {
    void operator()(ggml_context* context) const { ggml_free(context); }
};
struct BufferFree {
    void operator()(ggml_backend_buffer_t buffer) const { ggml_backend_buffer_free(buffer); }
};
using ContextPointer = std::unique_ptr<ggml_context, GgmlFree>;
using BufferPointer = std::unique_ptr<ggml_backend_buffer, BufferFree>;

ContextPointer new_context(size_t n_tensors) {
    return ContextPointer(ggml_init({ggml_tensor_overhead() * (n_tensors + 1), nullptr, /*no_alloc=*/true}));
}

std::string shape_text(const int64_t* ne) {
    int n = GGML_MAX_DIMS;
    while (n > 1 && ne[n - 1] == 1) --n;
    std::string text = "[";
    for (int i = 0; i < n; ++i) {
        if (i > 0) text += ", ";
        text += std::to_string(ne[i]);
    }
    return text + "]";
}

/// A whole tensor as it is, or to float32, rows shared out over threads.
void copy_tensor(const ggml_tensor& source, const void* from, const ggml_tensor& target, void* to, int n_threads) {
    const int64_t n_rows = ggml_nrows(&source);
    const size_t from_bytes = ggml_row_size(source.type, source.ne[0]);
    const size_t to_bytes = ggml_row_size(target.type, source.ne[0]);
    const int64_t rows_per_step = std::max<int64_t>(1, (1 << 18) / source.ne[0]);  // about a megabyte of float32
    std::atomic<int64_t> next{0};
    const auto work = [&] {
        for (int64_t row; (row = next.fetch_add(rows_per_step)) < n_rows;) {
            const auto n = static_cast<size_t>(std::min(rows_per_step, n_rows - row));
            const char* rows = static_cast<const char*>(from) + static_cast<size_t>(row) * from_bytes;
            char* out = static_cast<char*>(to) + static_cast<size_t>(row) * to_bytes;
            if (source.type == target.type) {
                std::memcpy(out, rows, n * from_bytes);
            } else {
                dequantize(source.type, rows, reinterpret_cast<float*>(out), static_cast<int64_t>(n) * source.ne[0]);
            }
        }
    };
    const auto n_steps = (n_rows + rows_per_step - 1) / rows_per_step;
    std::vector<std::jthread> helpers;
    for (int i = 1; i < std::min<int64_t>(n_threads, n_steps); ++i) helpers.emplace_back(work);
    work();
}

/// Whether the device multiplies by matrices of this type.
bool multiplies(ggml_backend_t backend, ggml_type type) {
    const int64_t k = std::max<int64_t>(256, ggml_blck_size(type));
    const ContextPointer context = new_context(3);
    ggml_tensor* w = ggml_new_tensor_2d(context.get(), type, k, 16);
    ggml_tensor* x = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, k, 16);
    return ggml_backend_supports_op(backend, ggml_mul_mat(context.get(), w, x));
}

bool is_supported(ggml_backend_t backend, ggml_type type) {
    if (type == GGML_TYPE_F32) return true;
    const ggml_type_traits* traits = ggml_get_type_traits(type);
    const bool number = ggml_is_quantized(type) || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16;
    return number && traits && traits->to_float && traits->blck_size > 0 && multiplies(backend, type);
}

std::string supported_types(ggml_backend_t backend) {
    std::string text;
    for (int i = 0; i < GGML_TYPE_COUNT; ++i) {
        const auto type = static_cast<ggml_type>(i);
        if (ggml_blck_size(type) == 0 || !is_supported(backend, type)) continue;
        if (!text.empty()) text += ' ';
        text += ggml_type_name(type);
    }
    return text;
}

}  // namespace

/// Everything that the tensors point into, and the placing of them.
struct Weights::Storage {
    ContextPointer cpu_context, gpu_context;
    BufferPointer mapped, owned, uploaded;
};

namespace {

/// Collects what is to be placed, then places it: sizes are known, and checked, before anything is allocated.
class Placer {
  public:
    Placer(const GgufFile& file, const ModelParams& params, Device& cpu, Device* gpu)
        : file_(file), f32_(params.compute == Compute::f32), stay_mapped_(params.mmap), cpu_(cpu), gpu_(gpu) {
        const auto n = static_cast<size_t>(file.n_tensors());
        // A tied output and the RoPE factors can be on two devices.
        cpu_context = new_context(n + 2);
        if (gpu) gpu_context = new_context(n + 2);
    }

    /// A matrix [n_in, n_out]; stays as it is in the file unless float32 is computed.
    ggml_tensor* matrix(const std::string& name, int64_t n_in, int64_t n_out, Device& device) {
        const ggml_tensor& source = required(name, {n_in, n_out, 1, 1});
        check_type(source, device);
        return add(source, f32_ ? GGML_TYPE_F32 : source.type, device);
    }

    /// A matrix on the CPU of which single rows are read: it stays in the file.
    ggml_tensor* table(const std::string& name, int64_t n_in, int64_t n_out) {
        ggml_tensor* target = matrix(name, n_in, n_out, cpu_);
        items_.back().single_rows = true;
        return target;
    }

    /// A vector [n]: norms, biases and factors are always float32.
    ggml_tensor* vector(const std::string& name, int64_t n, Device& device) {
        const ggml_tensor& source = required(name, {n, 1, 1, 1});
        check_type(source, device);
        return add(source, GGML_TYPE_F32, device);
    }

    bool has(const std::string& name) const { return file_.tensor(name) != nullptr; }

    /// A tensor that is not used would mean a model computed wrongly without a word.
    void check_all_used(const std::string& arch) const {
        file_.for_each_tensor([&](const ggml_tensor& t) {
            if (used_.count(t.name)) return;
            fail(file_.path() + ": tensor " + t.name + " is not part of a " + arch + " model that fastkv computes");
        });
    }

    void place() {
        place_on_cpu();
        if (gpu_) upload();
    }

    ContextPointer cpu_context, gpu_context;
    BufferPointer mapped, owned, uploaded;

  private:
    struct Item {
        const ggml_tensor* source;  // description in the file
        ggml_tensor* target;        // in a context of ours, without data as yet
        bool on_gpu;
        bool single_rows = false;  // read here and there, never streamed through
    };

    const ggml_tensor& required(const std::string& name, const int64_t (&ne)[GGML_MAX_DIMS]) {
        const ggml_tensor* t = file_.tensor(name);
        if (!t) fail(file_.path() + ": tensor " + name + " is missing");
        if (!std::equal(ne, ne + GGML_MAX_DIMS, t->ne)) {
            fail(file_.path() + ": tensor " + name + " has shape " + shape_text(t->ne) + ", but " + shape_text(ne) +
                 " is expected");
        }
        used_.insert(name);
        return *t;
    }

    void check_type(const ggml_tensor& t, Device& device) {
        const ggml_backend_t backend = device.is_cpu || f32_ ? cpu_.backend : device.backend;
        const std::string key = std::to_string(t.type) + (backend == cpu_.backend ? "" : "@gpu");
        if (checked_.count(key)) return;
        if (!is_supported(backend, t.type)) {
            fail(file_.path() + ": tensor " + t.name + " has type " + ggml_type_name(t.type) +
                 ", which is not supported (these are: " + supported_types(backend) + ")");
        }
        checked_.insert(key);
    }

    ggml_tensor* add(const ggml_tensor& source, ggml_type type, Device& device) {
        ggml_context* context = device.is_cpu ? cpu_context.get() : gpu_context.get();
        ggml_tensor* target = ggml_new_tensor(context, type, ggml_n_dims(&source), source.ne);
        ggml_set_name(target, source.name);
        items_.push_back({&source, target, !device.is_cpu});
        return target;
    }

    /// Whether the bytes in the file are used where they are.
    bool in_place(const Item& item) const {
        const auto address = reinterpret_cast<uintptr_t>(file_.tensor_data(item.source->name));
        const bool usable = item.source->type == item.target->type && address % data_alignment == 0;
        return usable && (stay_mapped_ || item.single_rows || item.on_gpu);
    }

    /// Bytes of the tensor in memory of our own.
    static size_t owned_bytes(const Item& item) { return GGML_PAD(ggml_nbytes(item.target), data_alignment); }

    /// Bytes of all tensors that are copied into memory of our own.
    size_t copied_bytes() const {
        size_t total = 0;
        for (const Item& item : items_) {
            if (!item.on_gpu && !in_place(item)) total += owned_bytes(item);
        }
        return total;
    }

    void write(const Item& item, void* to) const {
        copy_tensor(*item.source, file_.tensor_data(item.source->name), *item.target, to, cpu_.n_threads);
        file_.release(item.source->name);
    }

    void place_on_cpu() {
        mapped.reset(ggml_backend_cpu_buffer_from_ptr(const_cast<void*>(file_.mapping()), file_.size()));
        ggml_backend_buffer_set_usage(mapped.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
        // Every answered token streams through all weights, and large pages let that run twice as fast; the system has
        // none for a mapped file. Where a copy would leave little room the file is used where it is.
        if (copied_bytes() > available_memory() / 3 * 2) stay_mapped_ = true;
        const size_t total = copied_bytes();
        for (const Item& item : items_) {
            if (item.on_gpu || !in_place(item)) continue;
            set_data(mapped.get(), item.target, const_cast<void*>(file_.tensor_data(item.source->name)));
        }
        if (total == 0) return;
        require_memory(total, f32_ ? "the float32 copy of the weights" : "the copy of weights that are not aligned",
                       f32_ ? "use --compute auto or a smaller model" : "use a smaller model");
        owned.reset(ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), total));
        if (!owned) fail("not enough memory: the weights need " + format_bytes(total));
        ggml_backend_buffer_set_usage(owned.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
        char* next = static_cast<char*>(ggml_backend_buffer_get_base(owned.get()));
        prefer_huge_pages(next, total);
        for (const Item& item : items_) {
            if (item.on_gpu || in_place(item)) continue;
            set_data(owned.get(), item.target, next);
            write(item, next);
            next += owned_bytes(item);
        }
        file_.release();
    }

    static void set_data(ggml_backend_buffer_t buffer, ggml_tensor* tensor, void* address) {
        if (ggml_backend_tensor_alloc(buffer, tensor, address) != GGML_STATUS_SUCCESS) {
            fail(std::string("ggml cannot place tensor ") + tensor->name);
        }
    }

    void upload() {
        size_t total = 0, largest = 0;
        for (const Item& item : items_) {
            if (!item.on_gpu) continue;
            total += ggml_nbytes(item.target);
            if (!in_place(item)) largest = std::max(largest, ggml_nbytes(item.target));
        }
        if (total == 0) return;
        size_t free_bytes = 0, all_bytes = 0;
        ggml_backend_dev_memory(ggml_backend_get_device(gpu_->backend), &free_bytes, &all_bytes);
        const std::string advice = " (lower -ngl)";
        if (all_bytes > 0 && total > free_bytes) {
            fail("not enough memory on " + gpu_->name + ": its layers need " + format_bytes(total) + ", " +
                 format_bytes(free_bytes) + " is available" + advice);
        }
        uploaded.reset(ggml_backend_alloc_ctx_tensors(gpu_context.get(), gpu_->backend));
        if (!uploaded) fail("not enough memory on " + gpu_->name + ": its layers need " + format_bytes(total) + advice);
        ggml_backend_buffer_set_usage(uploaded.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
        std::vector<char> converted(largest);
        for (const Item& item : items_) {
            if (!item.on_gpu) continue;
            const void* data = file_.tensor_data(item.source->name);
            if (!in_place(item)) {
                write(item, converted.data());
                data = converted.data();
            }
            ggml_backend_tensor_set(item.target, data, 0, ggml_nbytes(item.target));
        }
    }

    const GgufFile& file_;
    bool f32_, stay_mapped_;
    Device& cpu_;
    Device* gpu_;
    std::vector<Item> items_;
    std::set<std::string> used_, checked_;
};

/// One layer's tensors on its device.
LayerWeights layer_weights(Placer& placer, const HyperParams& h, int layer, Device& device, bool biases) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    const int64_t n_q = int64_t{h.n_head} * h.head_dim, n_kv = int64_t{h.n_head_kv} * h.head_dim;
    LayerWeights w;
    w.device = &device;
    w.attn_norm = placer.vector(prefix + "attn_norm.weight", h.n_embd, device);
    w.attn_q = placer.matrix(prefix + "attn_q.weight", h.n_embd, n_q, device);
    w.attn_k = placer.matrix(prefix + "attn_k.weight", h.n_embd, n_kv, device);
    w.attn_v = placer.matrix(prefix + "attn_v.weight", h.n_embd, n_kv, device);
    if (biases) {
        w.attn_q_bias = placer.vector(prefix + "attn_q.bias", n_q, device);
        w.attn_k_bias = placer.vector(prefix + "attn_k.bias", n_kv, device);
        w.attn_v_bias = placer.vector(prefix + "attn_v.bias", n_kv, device);
    }
    w.attn_output = placer.matrix(prefix + "attn_output.weight", n_q, h.n_embd, device);
    w.ffn_norm = placer.vector(prefix + "ffn_norm.weight", h.n_embd, device);
    w.ffn_gate = placer.matrix(prefix + "ffn_gate.weight", h.n_embd, h.n_ff, device);
    w.ffn_up = placer.matrix(prefix + "ffn_up.weight", h.n_embd, h.n_ff, device);
    w.ffn_down = placer.matrix(prefix + "ffn_down.weight", h.n_ff, h.n_embd, device);
    return w;
}

/// Some converters write biases that are not there for other models of the architecture: all layers have them
/// or none.
bool has_biases(const GgufFile& file) {
    bool found = false;
    file.for_each_tensor([&](const ggml_tensor& t) {
        const std::string name = t.name;
        for (const char* end : {".attn_q.bias", ".attn_k.bias", ".attn_v.bias"}) found |= name.ends_with(end);
    });
    return found;
}

}  // namespace

Weights::Weights(const GgufFile& file, const HyperParams& h, const ModelParams& params, Device& cpu, Device* gpu)
    : storage_(std::make_unique<Storage>()) {
    const int n_gpu = !gpu ? 0 : params.n_gpu_layers < 0 ? h.n_layer + 1 : params.n_gpu_layers;
    const int first_gpu_layer = std::max(0, h.n_layer - n_gpu);
    output_device = n_gpu > h.n_layer ? gpu : &cpu;

    Placer placer(file, params, cpu, gpu);
    const bool tied = !placer.has("output.weight");
    const bool is_output = tied && output_device == &cpu;
    token_embd = is_output ? placer.matrix("token_embd.weight", h.n_embd, h.n_vocab, cpu)
                           : placer.table("token_embd.weight", h.n_embd, h.n_vocab);
    output_norm = placer.vector("output_norm.weight", h.n_embd, *output_device);
    output = is_output
                 ? token_embd
                 : placer.matrix(tied ? "token_embd.weight" : "output.weight", h.n_embd, h.n_vocab, *output_device);
    const bool biases = has_biases(file);
    for (int i = 0; i < h.n_layer; ++i) {
        layers.push_back(layer_weights(placer, h, i, i >= first_gpu_layer ? *gpu : cpu, biases));
    }
    if (placer.has("rope_freqs.weight")) {
        // One copy per device that has layers.
        ggml_tensor* on_cpu = first_gpu_layer > 0 ? placer.vector("rope_freqs.weight", h.n_rot / 2, cpu) : nullptr;
        ggml_tensor* on_gpu = n_gpu > 0 ? placer.vector("rope_freqs.weight", h.n_rot / 2, *gpu) : nullptr;
        for (LayerWeights& layer : layers) layer.rope_freqs = layer.device->is_cpu ? on_cpu : on_gpu;
    }
    placer.check_all_used(h.arch);
    placer.place();
    storage_->cpu_context = std::move(placer.cpu_context);
    storage_->gpu_context = std::move(placer.gpu_context);
    storage_->mapped = std::move(placer.mapped);
    storage_->owned = std::move(placer.owned);
    storage_->uploaded = std::move(placer.uploaded);
}

Weights::~Weights() = default;
Weights::Weights(Weights&&) noexcept = default;

}  // namespace fastkv
