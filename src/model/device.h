// Where layers are computed: the CPU, and one GPU if there is one and it was asked for.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "fastkv/model.h"
#include "ggml-backend.h"

namespace fastkv {

/// One ggml backend. `own_kernels` is true on a CPU whose layers use fastkv's kernels where they exist.
struct Device {
    ggml_backend_t backend = nullptr;
    std::string name;  ///< as ggml names it: "CPU", "CUDA0"
    bool is_cpu = true;
    bool own_kernels = false;
    int n_threads = 1;  ///< of the CPU
    mutable std::mutex
        computing;  ///< to hold while a graph runs: ggml's backend has one work buffer, sessions share it

    Device() = default;
    ~Device();
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;
};

/// The CPU with `params.n_threads` threads.
std::unique_ptr<Device> open_cpu(const ModelParams& params);

/// The first GPU (or other accelerator with memory of its own) that this build of ggml knows. Throws
/// Error(failure) if there is none.
std::unique_ptr<Device> open_gpu();

}  // namespace fastkv
