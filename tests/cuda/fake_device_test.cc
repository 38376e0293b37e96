// The fake device is one: what it records it repeats, streams wait for each other, and what a real one would punish is counted.
#include "tests/cuda/fake_device.h"

#include <thread>

#include "cuda/kernels/ops.h"
#include "tests/support/catch.h"

namespace outrigger::cuda {
namespace {

class Bench {
 public:
  Bench() {
    FakeDevice::get().reset();
    REQUIRE(api.create_stream(&stream, false) == kCudaOk);
    REQUIRE(api.create_stream(&other, true) == kCudaOk);
    REQUIRE(api.create_event(&event) == kCudaOk);
    void* data = nullptr;
    REQUIRE(api.allocate(&data, 2 * sizeof(float)) == kCudaOk);
    floats = static_cast<float*>(data);
    REQUIRE(api.clear(stream, floats, 2 * sizeof(float)) == kCudaOk);
    finish(stream);
    floats[0] = 1;  // the host may: the fake's memory is the host's
  }
  ~Bench() {
    (void)api.destroy_event(event);
    (void)api.destroy_stream(stream);
    (void)api.destroy_stream(other);
    (void)api.release(floats);
    CHECK(FakeDevice::get().live_objects() == 0);
  }
  void finish(StreamHandle of) const {
    REQUIRE(api.record_event(event, of) == kCudaOk);
    while (api.query_event(event) == kCudaNotReady) std::this_thread::yield();
  }
  CudaCode add(StreamHandle to) const { return launch_op(Launcher{api, to, 1, nullptr}, AddArgs{floats, 1, floats + 1, 1, 1, 1}); }

  const CudaApi& api = FakeDevice::api();
  StreamHandle stream = nullptr, other = nullptr;
  EventHandle event = nullptr;
  float* floats = nullptr;
};

TEST_CASE("fake device: what a stream is given while it records runs when the graph is launched, each time") {
  const Bench bench;
  GraphHandle graph = nullptr;
  REQUIRE(bench.api.begin_capture(bench.stream) == kCudaOk);
  REQUIRE(bench.add(bench.stream) == kCudaOk);
  REQUIRE(bench.add(bench.stream) == kCudaOk);
  REQUIRE(bench.api.record_event(bench.event, bench.stream) == 900);
  REQUIRE(bench.api.end_capture(bench.stream, &graph) == kCudaOk);
  bench.finish(bench.stream);
  REQUIRE(bench.floats[1] == 0);
  for (int i = 1; i <= 3; ++i) {
    REQUIRE(bench.api.launch_graph(bench.stream, graph) == kCudaOk);
    bench.finish(bench.stream);
    REQUIRE(bench.floats[1] == 2 * i);
  }
  REQUIRE(bench.api.destroy_graph(graph) == kCudaOk);
}

TEST_CASE("fake device: a stream waits for what the event stood for when it was told to") {
  const Bench bench;
  for (int i = 0; i < 50; ++i) REQUIRE(bench.add(bench.stream) == kCudaOk);
  REQUIRE(bench.api.record_event(bench.event, bench.stream) == kCudaOk);
  REQUIRE(bench.api.wait_event(bench.other, bench.event) == kCudaOk);
  REQUIRE(bench.api.copy(bench.other, bench.floats, bench.floats + 1, sizeof(float)) == kCudaOk);
  bench.finish(bench.other);
  REQUIRE(bench.floats[0] == 50);
}

TEST_CASE("fake device: memory is given back when what was submitted is done, and that it was still in use is counted") {
  const Bench bench;
  void* data = nullptr;
  REQUIRE(bench.api.allocate(&data, sizeof(float)) == kCudaOk);
  for (int i = 0; i < 50; ++i) REQUIRE(bench.add(bench.stream) == kCudaOk);
  REQUIRE(bench.api.copy(bench.stream, data, bench.floats + 1, sizeof(float)) == kCudaOk);
  REQUIRE(bench.api.release(data) == kCudaOk);
  REQUIRE(bench.floats[1] == 50);
  REQUIRE(FakeDevice::get().misuses() == 1);
}

TEST_CASE("fake device: counts what touches memory that is not there, and fails where it is told to, once") {
  const Bench bench;
  REQUIRE(bench.api.copy(bench.stream, bench.floats + 1, bench.floats, 2 * sizeof(float)) == 1);
  REQUIRE(FakeDevice::get().misuses() == 1);
  FakeDevice::get().inject(CudaCall::kMemory, 2, CudaFault::kOutOfMemory);
  uint64_t free_bytes = 0, all = 0;
  REQUIRE(bench.api.memory(&free_bytes, &all) == kCudaOk);
  REQUIRE_FALSE(FakeDevice::get().has_happened());
  REQUIRE(bench.api.memory(&free_bytes, &all) == kCudaOutOfMemory);
  REQUIRE(FakeDevice::get().has_happened());
  REQUIRE(bench.api.memory(&free_bytes, &all) == kCudaOk);
}

}  // namespace
}  // namespace outrigger::cuda
