// Layers on a device with memory of its own. No GPU is needed: ggml's RPC device, served by a second process on this
// machine, behaves like one, down to memory that the host cannot read.
#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "fastkv/fastkv.h"
#include "ggml-backend.h"
#include "support/compare.h"
#include "support/tiny_model.h"
#include "support/variants.h"

namespace fastkv {
namespace {

using StartServer = void (*)(const char* endpoint, const char* cache, size_t n_threads, size_t n_devices,
                             ggml_backend_dev_t* devices);
using AddServer = ggml_backend_reg_t (*)(const char* endpoint);

/// A port of the loopback interface that nobody uses.
int free_port() {
    const int handle = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    bind(handle, reinterpret_cast<sockaddr*>(&address), length);
    getsockname(handle, reinterpret_cast<sockaddr*>(&address), &length);
    close(handle);
    return ntohs(address.sin_port);
}

bool accepts(int port) {
    const int handle = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(uint16_t(port));
    const bool connected = connect(handle, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
    close(handle);
    return connected;
}

/// Starts the server once for all tests of this program, and registers its device as the GPU.
class RemoteDevice : public ::testing::Environment {
  public:
    void SetUp() override {
        ggml_backend_reg_t rpc = ggml_backend_reg_by_name("RPC");
        if (!rpc) return;
        const auto start =
            reinterpret_cast<StartServer>(ggml_backend_reg_get_proc_address(rpc, "ggml_backend_rpc_start_server"));
        const auto add =
            reinterpret_cast<AddServer>(ggml_backend_reg_get_proc_address(rpc, "ggml_backend_rpc_add_server"));
        if (!start || !add) return;
        const int port = free_port();
        const std::string endpoint = "127.0.0.1:" + std::to_string(port);
        server_ = fork();
        if (server_ == 0) {
            std::freopen("/dev/null", "w", stdout);
            ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
            start(endpoint.c_str(), nullptr, 1, 1, &cpu);
            _exit(1);
        }
        for (int i = 0; i < 100 && !accepts(port); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(50));
        ggml_backend_reg_t remote = add(endpoint.c_str());
        if (remote) ggml_backend_register(remote);
        available = remote != nullptr;
    }
    void TearDown() override {
        if (server_ <= 0) return;
        kill(server_, SIGKILL);
        waitpid(server_, nullptr, 0);
    }
    static inline bool available = false;

  private:
    pid_t server_ = -1;
};

const auto* const remote_device = ::testing::AddGlobalTestEnvironment(new RemoteDevice);

class Devices : public ::testing::TestWithParam<int> {
  protected:
    void SetUp() override {
        if (!RemoteDevice::available) GTEST_SKIP() << "this ggml is built without its RPC device";
    }
};

/// The last n_gpu_layers layers elsewhere, everything else here: the same choice, the same logits.
TEST_P(Devices, ComputeWhatTheCpuComputes) {
    for (const std::string arch : {"llama", "qwen2"}) {
        const std::string path = test::write_tiny_model({.arch = arch, .n_layer = 5, .qkv_bias = arch == "qwen2"});
        ModelParams params;
        params.compute = Compute::f32;
        params.n_threads = 1;  // the server takes the other core
        const Model cpu = Model::load(path, params);
        params.n_gpu_layers = GetParam();
        const Model mixed = Model::load(path, params);
        const auto tokens = test::random_tokens(cpu.hparams().n_vocab, 700);
        MethodParams method;
        method.retain_rate = 0.2;
        method.tsp_rate = 0.4;
        Session a(cpu, method, {.n_predict = 2}), b(mixed, method, {.n_predict = 2});
        a.prefill(tokens);
        b.prefill(tokens);
        for (size_t layer = 0; layer < 5; ++layer) ASSERT_EQ(a.layers()[layer].cached, b.layers()[layer].cached);
        EXPECT_GE(test::overlap(a, b), 0.99) << arch;
        for (Token token = 10; token < 310; token += 10) {  // past the reserve of two: the caches move on both sides
            ASSERT_LT(test::largest_difference(a.logits(), b.logits()), 5e-2) << arch << " before token " << token;
            a.decode(token % 300);
            b.decode(token % 300);
        }
    }
}

/// Later turns too, with heads of one length and of different ones, and cut again.
TEST_P(Devices, ReadLaterTurnsAsTheCpuDoes) {
    const std::string path = test::write_tiny_model({.n_layer = 5});
    ModelParams params;
    params.compute = Compute::f32;
    params.n_threads = 1;
    const Model cpu = Model::load(path, params);
    params.n_gpu_layers = GetParam();
    const Model mixed = Model::load(path, params);
    for (const double floor : {1.0, 0.2}) {
        MethodParams method{.method = "snapkv", .retain_rate = 0.3};
        method.head_floor = floor;
        Session a(cpu, method, {.n_predict = 2}), b(mixed, method, {.n_predict = 2});
        for (Session* session : {&a, &b}) {
            session->prefill(test::random_tokens(cpu.hparams().n_vocab, 300));
            session->extend(test::random_tokens(cpu.hparams().n_vocab, 300, 2), /*recompress=*/floor == 1);
        }
        for (const Token token : {10, 20, 30}) {
            ASSERT_LT(test::largest_difference(a.logits(), b.logits()), 5e-2) << "floor " << floor;
            a.decode(token);
            b.decode(token);
        }
    }
}

/// Sessions of different methods and lengths in one pass over both devices.
TEST_P(Devices, DecodeTogetherAsTheCpuDoes) {
    const std::string path = test::write_tiny_model({.n_layer = 5});
    ModelParams params{.n_threads = 1, .compute = Compute::f32};
    const Model cpu = Model::load(path, params);
    params.n_gpu_layers = GetParam();
    const Model mixed = Model::load(path, params);
    std::vector<Session> alone, together;
    for (const char* method : {"fullkv", "fastkv", "pyramidinfer"}) {
        const auto prompt = test::random_tokens(cpu.hparams().n_vocab, 150 + 100 * int(alone.size()));
        alone.emplace_back(cpu, MethodParams{.method = method}, SessionParams{.n_predict = 2}).prefill(prompt);
        together.emplace_back(mixed, MethodParams{.method = method}, SessionParams{.n_predict = 2}).prefill(prompt);
    }
    Batch batch(mixed);
    Session* const all[] = {&together[0], &together[1], &together[2]};
    for (const Token token : {10, 20, 30, 40}) {
        for (const std::exception_ptr& error : batch.decode(all, std::vector<Token>(3, token))) ASSERT_FALSE(error);
        for (size_t i = 0; i < alone.size(); ++i) {
            alone[i].decode(token);
            ASSERT_LT(test::largest_difference(alone[i].logits(), together[i].logits()), 5e-2) << "session " << i;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Layers, Devices, ::testing::Values(1, 3, 5, -1));

class DeviceVariants : public ::testing::TestWithParam<test::Variant> {
  protected:
    void SetUp() override {
        if (!RemoteDevice::available) GTEST_SKIP() << "this ggml is built without its RPC device";
    }

    /// How far logits may be apart: blocks are read in different ways, ggml rounds the query too, and what is evicted
    /// by their weights differs where it is a near thing.
    static double bound_of(CacheType type, const MethodParams& method) {
        switch (type) {
            case CacheType::q8_0: return method.h2o_decode == H2oDecode::evict ? 0.6 : 0.3;
            case CacheType::q5_0: return 1;
            case CacheType::q4_0: return 1.5;
            default: return 5e-3;
        }
    }

    /// The same model on both devices and on the CPU alone.
    static void expect_equal(const std::string& path, const MethodParams& method, const SessionParams& session) {
        ModelParams params;
        params.compute = Compute::f32;
        params.n_threads = 1;
        const Model cpu = Model::load(path, params);
        params.n_gpu_layers = 2;
        const Model mixed = Model::load(path, params);
        const auto tokens = test::random_tokens(cpu.hparams().n_vocab, 200);
        Session a(cpu, method, session), b(mixed, method, session);
        a.prefill(tokens);
        b.prefill(tokens);
        EXPECT_EQ(test::overlap(a, b), 1);
        for (Token token = 10; token < 30; ++token) {
            ASSERT_LT(test::largest_difference(a.logits(), b.logits()), bound_of(session.cache_type_k, method))
                << "before token " << token;
            a.decode(token);
            b.decode(token);
        }
    }
};

/// Choice, cache and evictions of every method on memory that the host cannot read.
TEST_P(DeviceVariants, ChooseAndDecodeAsOnTheCpu) {
    static const std::string path = test::write_tiny_model({.n_layer = 4});
    expect_equal(path, GetParam().params(), {.n_predict = 3});
}

TEST_P(DeviceVariants, KnowSlidingWindows) {
    static const std::string path = test::write_tiny_model({.n_layer = 4, .sliding_window = 30});
    expect_equal(path, GetParam().params(), {.n_predict = 3});
}

TEST_P(DeviceVariants, StoreBlocks) {
    static const std::string path = test::write_tiny_model({.n_layer = 4, .n_head = 2, .n_head_kv = 1, .head_dim = 32});
    for (const CacheType type : {CacheType::q8_0, CacheType::q5_0, CacheType::q4_0}) {
        expect_equal(path, GetParam().params(), {.n_predict = 3, .cache_type_k = type, .cache_type_v = type});
    }
}

INSTANTIATE_TEST_SUITE_P(Remote, DeviceVariants, ::testing::ValuesIn(test::variants()),
                         [](const auto& param) { return param.param.name; });

}  // namespace
}  // namespace fastkv
