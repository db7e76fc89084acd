// Devices through ggml's registry, so that backends linked in, loaded at run time or registered by the caller
// (RPC) all look alike.
#include "model/device.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <mutex>
#include <set>
#include <thread>

#include "fastkv/error.h"
#include "model/log.h"

namespace fastkv {

namespace {

/// Builds of ggml with backends as separate libraries know no device until they are loaded.
void load_backends() {
    static std::once_flag once;
    std::call_once(once, [] {
        install_logs();
        if (!ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU)) ggml_backend_load_all();
    });
}

/// Processor time that the control group grants, in processors; a large number without a limit.
int quota_processors() {
    double quota = 0, period = 0;
    std::ifstream v2("/sys/fs/cgroup/cpu.max");
    if (!(v2 >> quota >> period)) {
        std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") >> quota;
        std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_period_us") >> period;
    }
    constexpr int unlimited = 1 << 20;
    return quota > 0 && period > 0 ? std::max(1, static_cast<int>(std::min(quota / period + 0.5, 1e6))) : unlimited;
}

/// Physical cores that this process may use: two hardware threads of one core share its multipliers.
int physical_cores() {
    std::set<std::string> cores;  // the list of sibling threads names a core
    int n_processors = 0;
#ifdef __linux__
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
        for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
            if (!CPU_ISSET(cpu, &allowed)) continue;
            ++n_processors;
            std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
            std::string siblings;
            if (std::getline(file, siblings)) cores.insert(siblings);
        }
    }
#endif
    if (n_processors == 0) n_processors = static_cast<int>(std::thread::hardware_concurrency());
    const int n_cores = cores.empty() ? n_processors : static_cast<int>(cores.size());
    return std::clamp(n_cores, 1, quota_processors());
}

void set_threads(ggml_backend_t backend, int n_threads) {
    const ggml_backend_reg_t registry = ggml_backend_dev_backend_reg(ggml_backend_get_device(backend));
    const auto set = reinterpret_cast<ggml_backend_set_n_threads_t>(
        ggml_backend_reg_get_proc_address(registry, "ggml_backend_set_n_threads"));
    if (set) set(backend, n_threads);
}

bool is_gpu(ggml_backend_dev_t device) {
    switch (ggml_backend_dev_type(device)) {
        case GGML_BACKEND_DEVICE_TYPE_GPU:
        case GGML_BACKEND_DEVICE_TYPE_IGPU: return true;
        // Helpers of the CPU (BLAS) are accelerators that compute in the CPU's memory.
        case GGML_BACKEND_DEVICE_TYPE_ACCEL: return !ggml_backend_buft_is_host(ggml_backend_dev_buffer_type(device));
        default: return false;
    }
}

}  // namespace

Device::~Device() {
    if (backend) ggml_backend_free(backend);
}

std::unique_ptr<Device> open_cpu(const ModelParams& params) {
    load_backends();
    auto device = std::make_unique<Device>();
    device->backend = ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr);
    if (!device->backend) fail("ggml has no CPU backend (is its library complete?)");
    device->name = ggml_backend_name(device->backend);
    device->own_kernels = params.ops == Ops::automatic;
    device->n_threads = params.n_threads > 0 ? params.n_threads : physical_cores();
    set_threads(device->backend, device->n_threads);
    return device;
}

std::unique_ptr<Device> open_gpu() {
    load_backends();
    for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
        const ggml_backend_dev_t candidate = ggml_backend_dev_get(i);
        if (!is_gpu(candidate)) continue;
        auto device = std::make_unique<Device>();
        LogCapture log;
        device->backend = ggml_backend_dev_init(candidate, nullptr);
        if (!device->backend) {
            fail(std::string("cannot start the GPU ") + ggml_backend_dev_name(candidate) + ": " + log.first_error());
        }
        device->name = ggml_backend_name(device->backend);
        device->is_cpu = false;
        return device;
    }
    fail(
        "-ngl: this build of ggml knows no GPU (leave -ngl out, or build with GGML_CUDA or another GPU "
        "backend)");
}

}  // namespace fastkv
