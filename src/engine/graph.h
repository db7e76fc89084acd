// One ggml graph: built in a few lines, its inputs uploaded from host memory before every run.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "ggml-cpp.h"
#include "ggml.h"
#include "kernels/team.h"
#include "model/device.h"

namespace fastkv {

/// The work of one CPU thread, `ith` of `nth`, on a node of a graph. All threads of the graph call it; the next node
/// begins when all have returned.
using CpuCall = std::function<void(ggml_tensor* dst, int ith, int nth)>;

/// The same for work that the threads take in pieces.
using TeamCall = std::function<void(ggml_tensor* dst, kernels::Team& team)>;

class Graph {
  public:
    /// `allocator` provides the memory of intermediate results and may serve many graphs, one after the other.
    Graph(const Device& device, ggml_gallocr_t allocator, int max_nodes);

    ggml_context* ctx() const { return ctx_.get(); }
    const Device& device() const { return device_; }

    /// A tensor whose contents are copied from `host` before every run; `host` must live as long as the graph.
    ggml_tensor* input(ggml_type type, std::initializer_list<int64_t> shape, const void* host);

    /// A float32 node computed by `call` from `args` (at most 8) on the CPU's threads.
    ggml_tensor* cpu_node(std::initializer_list<int64_t> shape, std::vector<ggml_tensor*> args, CpuCall call);
    ggml_tensor* cpu_node(std::initializer_list<int64_t> shape, std::vector<ggml_tensor*> args, TeamCall call);

    /// The same, written over `target`, which no later node may read; `dst->src[0]` is `target`, then come `args`.
    ggml_tensor* cpu_node_over(ggml_tensor* target, std::vector<ggml_tensor*> args, TeamCall call);

    /// Makes sure that `node` and what it depends on is computed, in the order of these calls.
    void compute(ggml_tensor* node) { ggml_build_forward_expand(graph_, node); }

    /// As compute(), and the contents of `node` outlive the run, for read().
    void output(ggml_tensor* node);

    /// Runs the graph; it may be run again. Throws Error(failure) when the device fails or has no memory left.
    void run();

    /// Copies an output to the host: ggml_nbytes(node) bytes.
    void read(const ggml_tensor* node, void* host) const;

  private:
    struct Input {
        ggml_tensor* tensor;
        const void* host;
    };

    CpuCall by_team(TeamCall call);

    const Device& device_;
    ggml_gallocr_t allocator_;
    ggml_context_ptr ctx_;
    ggml_cgraph* graph_ = nullptr;  // lives in ctx_
    std::vector<Input> inputs_;
    std::vector<std::unique_ptr<CpuCall>> calls_;
    std::vector<std::unique_ptr<kernels::Team>> teams_;
    bool allocated_ = false;
};

/// An allocator for graphs on `device`.
ggml_gallocr_ptr new_graph_allocator(const Device& device);

/// Tensors with memory of their own on a device, for as long as this lives.
class TensorStore {
  public:
    /// Describes up to `n` tensors: call add() for each, then allocate().
    TensorStore(const Device& device, int n);

    ggml_tensor* add(ggml_type type, std::initializer_list<int64_t> shape);

    /// Throws Error(failure) naming `what` when the device has no room.
    void allocate(const std::string& what);

    /// The same for tensors that every token of an answer reads: on the CPU they lie next to those of other stores.
    void allocate_side_by_side(const std::string& what);

  private:
    void check(const std::string& what) const;
    void clear();

    const Device* device_;
    ggml_context_ptr ctx_;
    std::shared_ptr<std::byte> memory_;  // of buffer_, where it has none of its own
    ggml_backend_buffer_ptr buffer_;
};

}  // namespace fastkv
