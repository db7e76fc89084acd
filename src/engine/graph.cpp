#include "engine/graph.h"

#include <algorithm>
#include <mutex>

#include "fastkv/error.h"
#include "model/memory.h"

namespace fastkv {

namespace {

ggml_context_ptr new_context(size_t n_tensors, size_t graph_nodes) {
    const size_t graph_bytes = graph_nodes > 0 ? ggml_graph_overhead_custom(graph_nodes, false) : 0;
    ggml_context_ptr ctx(ggml_init({
        /*.mem_size   =*/n_tensors * ggml_tensor_overhead() + graph_bytes,
        /*.mem_buffer =*/nullptr,
        /*.no_alloc   =*/true,
    }));
    if (!ctx) fail("not enough memory for the description of a graph");
    return ctx;
}

ggml_tensor* new_tensor(ggml_context* ctx, ggml_type type, std::initializer_list<int64_t> shape) {
    return ggml_new_tensor(ctx, type, int(shape.size()), shape.begin());
}

void call_cpu(ggml_tensor* dst, int ith, int nth, void* call) { (*static_cast<const CpuCall*>(call))(dst, ith, nth); }

}  // namespace

Graph::Graph(const Device& device, ggml_gallocr_t allocator, int max_nodes)
    : device_(device),
      allocator_(allocator),
      // views and inputs are tensors too, but not nodes that are computed
      ctx_(new_context(size_t(max_nodes) * 2, size_t(max_nodes))),
      graph_(ggml_new_graph_custom(ctx_.get(), size_t(max_nodes), false)) {}

ggml_tensor* Graph::input(ggml_type type, std::initializer_list<int64_t> shape, const void* host) {
    ggml_tensor* tensor = new_tensor(ctx(), type, shape);
    ggml_set_input(tensor);
    inputs_.push_back({tensor, host});
    return tensor;
}

ggml_tensor* Graph::cpu_node(std::initializer_list<int64_t> shape, std::vector<ggml_tensor*> args, CpuCall call) {
    calls_.push_back(std::make_unique<CpuCall>(std::move(call)));
    int64_t ne[4] = {1, 1, 1, 1};
    std::copy(shape.begin(), shape.end(), ne);
    return ggml_custom_4d(ctx(), GGML_TYPE_F32, ne[0], ne[1], ne[2], ne[3], args.data(), int(args.size()), call_cpu,
                          GGML_N_TASKS_MAX, calls_.back().get());
}

ggml_tensor* Graph::cpu_node(std::initializer_list<int64_t> shape, std::vector<ggml_tensor*> args, TeamCall call) {
    return cpu_node(shape, std::move(args), by_team(std::move(call)));
}

ggml_tensor* Graph::cpu_node_over(ggml_tensor* target, std::vector<ggml_tensor*> args, TeamCall call) {
    calls_.push_back(std::make_unique<CpuCall>(by_team(std::move(call))));
    return ggml_custom_inplace(ctx(), target, args.data(), int(args.size()), call_cpu, GGML_N_TASKS_MAX,
                               calls_.back().get());
}

CpuCall Graph::by_team(TeamCall call) {
    kernels::Team& team = *teams_.emplace_back(std::make_unique<kernels::Team>(device_.n_threads));
    return [call = std::move(call), &team](ggml_tensor* dst, int, int) { call(dst, team); };
}

void Graph::output(ggml_tensor* node) {
    ggml_set_output(node);
    compute(node);
}

void Graph::run() {
    if (!allocated_ && !ggml_gallocr_alloc_graph(allocator_, graph_)) {
        fail("not enough memory on " + device_.name + " for the intermediate results of a layer");
    }
    allocated_ = true;
    for (const Input& input : inputs_) {
        // an input that no node reads has no memory
        if (input.tensor->buffer) {
            ggml_backend_tensor_set(input.tensor, input.host, 0, ggml_nbytes(input.tensor));
        }
    }
    for (const auto& team : teams_) team->start_over();
    const std::lock_guard lock(device_.computing);
    const ggml_status status = ggml_backend_graph_compute(device_.backend, graph_);
    if (status != GGML_STATUS_SUCCESS) {
        fail(device_.name + " could not compute a layer: " + ggml_status_to_string(status));
    }
}

void Graph::read(const ggml_tensor* node, void* host) const {
    ggml_backend_tensor_get(node, host, 0, ggml_nbytes(node));
}

ggml_gallocr_ptr new_graph_allocator(const Device& device) {
    return ggml_gallocr_ptr(ggml_gallocr_new(ggml_backend_get_default_buffer_type(device.backend)));
}

TensorStore::TensorStore(const Device& device, int n) : device_(&device), ctx_(new_context(size_t(n), 0)) {}

ggml_tensor* TensorStore::add(ggml_type type, std::initializer_list<int64_t> shape) {
    return new_tensor(ctx_.get(), type, shape);
}

void TensorStore::allocate(const std::string& what) {
    buffer_.reset(ggml_backend_alloc_ctx_tensors(ctx_.get(), device_->backend));
    check(what);
    if (device_->is_cpu)
        prefer_huge_pages(ggml_backend_buffer_get_base(buffer_.get()), ggml_backend_buffer_get_size(buffer_.get()));
    clear();
}

void TensorStore::allocate_side_by_side(const std::string& what) {
    if (!device_->is_cpu) return allocate(what);
    constexpr size_t alignment = 64;
    size_t total = 0;
    for (ggml_tensor* t = ggml_get_first_tensor(ctx_.get()); t; t = ggml_get_next_tensor(ctx_.get(), t)) {
        total += GGML_PAD(ggml_nbytes(t), alignment);
    }
    memory_ = side_by_side(total);
    if (memory_) buffer_.reset(ggml_backend_cpu_buffer_from_ptr(memory_.get(), total));
    check(what);
    std::byte* next = memory_.get();
    for (ggml_tensor* t = ggml_get_first_tensor(ctx_.get()); t; t = ggml_get_next_tensor(ctx_.get(), t)) {
        ggml_backend_tensor_alloc(buffer_.get(), t, next);
        next += GGML_PAD(ggml_nbytes(t), alignment);
    }
    clear();
}

void TensorStore::check(const std::string& what) const {
    if (!buffer_) fail("not enough memory on " + device_->name + " for " + what);
}

// ggml's attention multiplies masked entries by zero: they must not be NaN.
void TensorStore::clear() {
    if (!device_->own_kernels) ggml_backend_buffer_clear(buffer_.get(), 0);
}

}  // namespace fastkv
