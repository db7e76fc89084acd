// oneDNN's matmul with everything that is expensive to make kept per thread: primitives, memory handles, scratchpad.
#include "kernels/onednn_product.h"

#include "fastkv/error.h"
#include "kernels/aligned_buffer.h"
#include "kernels/simd.h"

#ifdef FASTKV_HAVE_ONEDNN

#include <oneapi/dnnl/dnnl.hpp>

#include <array>
#include <cassert>
#include <cstdint>
#include <cstring>
#include <unordered_map>

#if DNNL_CPU_RUNTIME == DNNL_RUNTIME_OMP
#include <omp.h>
#endif

namespace fastkv::kernels::onednn {

namespace {

using dnnl::memory;

const dnnl::engine& cpu() {
    static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    return engine;
}

memory::data_type data_type(GemmType type) {
    return type == GemmType::f32 ? memory::data_type::f32 : memory::data_type::bf16;
}

dnnl::matmul::primitive_desc describe(const ProductShape& shape, const memory::desc& b) {
    const memory::desc a({shape.m, shape.k}, data_type(shape.type), memory::format_tag::ab);
    const memory::desc c({shape.m, shape.n}, memory::data_type::f32, memory::format_tag::ab);
    dnnl::primitive_attr attributes;
    // oneDNN's own scratchpad is shared between threads that run the same primitive: ours is not.
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    attributes.set_fpmath_mode(dnnl::fpmath_mode::strict);  // float32 means float32, whatever the environment says
    if (shape.accumulate) {
        dnnl::post_ops add_to_c;
        add_to_c.append_sum(1.0F);
        attributes.set_post_ops(add_to_c);
    }
#if DNNL_VERSION_MAJOR >= 3
    return {cpu(), a, b, c, attributes};
#else
    return {dnnl::matmul::desc(a, b, c), attributes, cpu()};
#endif
}

/// The layout of a packed operand is a function of its type and size alone: the one that oneDNN prefers for a
/// middling row count. Products of any other row count are told to take it.
memory::desc packed_layout(GemmType type, int n, int k) {
    assert(n % product_n_step == 0 && k % product_k_step == 0);
    const ProductShape typical = dense_product(type, 128, n, k, false);
    memory::desc layout =
        describe(typical, memory::desc({k, n}, data_type(type), memory::format_tag::any)).weights_desc();
    // Offsets into packed operands are computed from their sizes.
    if (layout.get_size() != static_cast<size_t>(n) * static_cast<size_t>(k) * gemm_type_size(type)) {
        fail("this version of oneDNN pads packed operands: use 2.6 or 3.x, or build without it");
    }
    return layout;
}

struct Product {
    dnnl::matmul primitive;
    memory a;
    memory b;
    memory c;
    memory scratchpad;
    size_t scratchpad_bytes = 0;
};

struct Packing {
    dnnl::reorder primitive;
    memory source;
    memory packed;
    memory scratchpad;
    size_t scratchpad_bytes = 0;
};

struct PackingShape {
    GemmType type;
    int n, k;
    OperandOrder order;
    size_t row_stride;
    bool operator==(const PackingShape&) const = default;
};

/// Numbers that tell shapes apart, folded into one.
size_t hash_of(std::initializer_list<size_t> values) {
    size_t hash = 0;
    for (const size_t value : values) hash = (hash ^ value) * 0x9E3779B97F4A7C15U;
    return hash ^ hash >> 32;
}

struct ShapeHash {
    size_t operator()(const ProductShape& s) const {
        return hash_of(
            {size_t(s.type), size_t(s.m), size_t(s.n), size_t(s.k), size_t(s.accumulate), s.a_stride, s.c_stride});
    }
    size_t operator()(const PackingShape& s) const {
        return hash_of({size_t(s.type), size_t(s.n), size_t(s.k), size_t(s.order), s.row_stride});
    }
};

/// What one thread keeps between calls. Nothing here is shared, so nothing is locked.
struct ThreadState {
    dnnl::stream stream{cpu()};
    std::unordered_map<ProductShape, Product, ShapeHash> products;
    std::unordered_map<PackingShape, Packing, ShapeHash> packings;
    AlignedBuffer scratchpad;
};

ThreadState& thread_state() {
    static thread_local ThreadState state;
    return state;
}

Product make_product(const ProductShape& shape) {
    const dnnl::matmul::primitive_desc description = describe(shape, packed_layout(shape.type, shape.n, shape.k));
    const memory::desc scratchpad = description.scratchpad_desc();
    return {dnnl::matmul(description),
            memory(description.src_desc(), cpu(), nullptr),
            memory(description.weights_desc(), cpu(), nullptr),
            memory(description.dst_desc(), cpu(), nullptr),
            memory(scratchpad, cpu(), nullptr),
            scratchpad.get_size()};
}

Packing make_packing(const PackingShape& shape) {
    const auto& [type, n, k, order, row_stride] = shape;
    const auto stride = static_cast<memory::dim>(row_stride);
    const memory::dims strides = order == OperandOrder::transposed ? memory::dims{1, stride} : memory::dims{stride, 1};
    const memory::desc source({k, n}, data_type(type), strides);
    const memory::desc packed = packed_layout(type, n, k);
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::reorder::primitive_desc description(cpu(), source, cpu(), packed, attributes);
    const memory::desc scratchpad = description.scratchpad_desc();
    return {dnnl::reorder(description), memory(source, cpu(), nullptr), memory(packed, cpu(), nullptr),
            memory(scratchpad, cpu(), nullptr), scratchpad.get_size()};
}

/// Runs through the C interface: the C++ one builds a hash map and a vector for every call.
template <size_t n>
void run(const dnnl::primitive& primitive, const std::array<dnnl_exec_arg_t, n>& arguments) {
    const ThreadState& state = thread_state();
    dnnl::error::wrap_c_api(
        dnnl_primitive_execute(primitive.get(), state.stream.get(), static_cast<int>(n), arguments.data()),
        "could not execute a product");
}

void point_scratchpad(memory& scratchpad, size_t bytes) {
    AlignedBuffer& buffer = thread_state().scratchpad;
    buffer.reserve(bytes);
    scratchpad.set_data_handle(buffer.data());
}

/// oneDNN's interface takes operands that it only reads as pointers to mutable memory.
void point(memory& argument, const void* data) { argument.set_data_handle(const_cast<void*>(data)); }

/// oneDNN holds itself to what the user allows before it is first asked.
bool limit_isa() {
    if (max_isa() == Isa::avx2) return dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx2) == dnnl::status::success;
    if (max_isa() == Isa::avx512)
        return dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx512_core_bf16) == dnnl::status::success;
    return true;
}

bool has_isa(dnnl::cpu_isa wanted) {
    static const bool limited = limit_isa();
    (void)limited;
    const auto have = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
    const auto bits = static_cast<unsigned>(wanted);
    return (have & bits) == bits;
}

const char* isa_name() {
    if (has_isa(dnnl::cpu_isa::avx512_core_amx)) {
        return "avx512_core_amx";
    }
    if (has_isa(dnnl::cpu_isa::avx512_core_bf16)) {
        return "avx512_core_bf16";
    }
    if (has_isa(dnnl::cpu_isa::avx512_core)) {
        return "avx512_core";
    }
    if (has_isa(dnnl::cpu_isa::avx2)) {
        return "avx2";
    }
    return "generic";
}

}  // namespace

SingleThread::SingleThread() {
#if DNNL_CPU_RUNTIME == DNNL_RUNTIME_OMP
    n_thread_before_ = omp_get_max_threads();
    omp_set_num_threads(1);
#endif
}

SingleThread::~SingleThread() {
#if DNNL_CPU_RUNTIME == DNNL_RUNTIME_OMP
    omp_set_num_threads(n_thread_before_);
#endif
}

bool available(GemmType type) {
    static const bool fast_bf16 = has_isa(dnnl::cpu_isa::avx512_core_bf16);
    return type == GemmType::f32 || fast_bf16;
}

std::string description() {
    const dnnl_version_t* version = dnnl_version();
    return "oneDNN " + std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
           std::to_string(version->patch) + " (" + isa_name() + ")";
}

size_t packed_operand_bytes(GemmType type, int n, int k) { return packed_layout(type, n, k).get_size(); }

void pack_operand(GemmType type, int n, int k, OperandOrder order, const void* source, size_t row_stride,
                  void* packed) {
    auto& packings = thread_state().packings;
    const PackingShape shape{type, n, k, order, row_stride};
    auto found = packings.find(shape);
    if (found == packings.end()) found = packings.emplace(shape, make_packing(shape)).first;
    Packing& packing = found->second;
    point(packing.source, source);
    point(packing.packed, packed);
    point_scratchpad(packing.scratchpad, packing.scratchpad_bytes);
    run<3>(packing.primitive, {{{DNNL_ARG_FROM, packing.source.get()},
                                {DNNL_ARG_TO, packing.packed.get()},
                                {DNNL_ARG_SCRATCHPAD, packing.scratchpad.get()}}});
}

namespace {

void multiply_dense(const ProductShape& shape, const void* a, const void* packed_b, float* c) {
    auto& products = thread_state().products;
    auto found = products.find(shape);
    if (found == products.end()) found = products.emplace(shape, make_product(shape)).first;
    Product& product = found->second;
    point(product.a, a);
    point(product.b, packed_b);
    point(product.c, c);
    point_scratchpad(product.scratchpad, product.scratchpad_bytes);
    run<4>(product.primitive, {{{DNNL_ARG_SRC, product.a.get()},
                                {DNNL_ARG_WEIGHTS, product.b.get()},
                                {DNNL_ARG_DST, product.c.get()},
                                {DNNL_ARG_SCRATCHPAD, product.scratchpad.get()}}});
}

/// Rows of `row_bytes` from one place, `from_stride` bytes apart, to another.
void copy_rows(const void* from, size_t from_stride, void* to, size_t to_stride, int rows, size_t row_bytes) {
    for (size_t r = 0; r < static_cast<size_t>(rows); ++r) {
        std::memcpy(static_cast<std::byte*>(to) + r * to_stride, static_cast<const std::byte*>(from) + r * from_stride,
                    row_bytes);
    }
}

}  // namespace

/// oneDNN's fast kernels want A and C without gaps: with them it takes a plain loop that is a hundred times slower.
/// Callers leave none in C (ProductSizes::into_rows); A's are a row's other chunks of k.
void multiply(const ProductShape& shape, const void* a, const void* packed_b, float* c) {
    static thread_local AlignedBuffer a_memory;  // [m][k]
    const ProductShape dense = dense_product(shape.type, shape.m, shape.n, shape.k, shape.accumulate);
    assert(shape.c_stride == dense.c_stride);
    if (shape.a_stride != dense.a_stride) {
        const size_t value = gemm_type_size(shape.type), row_bytes = dense.a_stride * value;
        a_memory.reserve(static_cast<size_t>(shape.m) * row_bytes);
        copy_rows(a, shape.a_stride * value, a_memory.data(), row_bytes, shape.m, row_bytes);
        a = a_memory.data();
    }
    multiply_dense(dense, a, packed_b, c);
}

}  // namespace fastkv::kernels::onednn

#else  // without oneDNN the engine asks gemm_available() and takes ggml's products

namespace fastkv::kernels::onednn {

namespace {
[[noreturn]] void no_products() { fail("this build has no oneDNN: build with it, or take ggml's products"); }
}  // namespace

SingleThread::SingleThread() = default;
SingleThread::~SingleThread() = default;

bool available(GemmType) { return false; }
std::string description() { return ""; }
size_t packed_operand_bytes(GemmType, int, int) { no_products(); }
void pack_operand(GemmType, int, int, OperandOrder, const void*, size_t, void*) { no_products(); }
void multiply(const ProductShape&, const void*, const void*, float*) { no_products(); }

}  // namespace fastkv::kernels::onednn

#endif
