// Runs of operations that are launched as graphs: by the backend, on a fake device.
#include "cuda/device/recorded_runs.h"

#include "cuda/device/cuda_backend.h"
#include "tests/contract/backend_repeat_contract.h"
#include "tests/cuda/fake_device.h"

namespace outrigger::cuda {
namespace {

using contract::as;
using contract::is_equal;
using contract::Layers;
using contract::must;
using contract::outcome;
using contract::require_ok;

class FreshDevice {
 public:
  FreshDevice() { FakeDevice::get().reset(); }
  ~FreshDevice() {
    CHECK(FakeDevice::get().live_objects() == 0);
    CHECK(FakeDevice::get().misuses() == 0);
  }
};

std::unique_ptr<Backend> open_fake() {
  CudaDeviceOptions options;
  options.repeats_runs = true;
  options.architectures = "90";
  return must(open_cuda_device(FakeDevice::api(), options));
}

uint64_t calls(CudaCall call) { return FakeDevice::get().calls(call); }

// Additions of so many floats, some times: another width is another run.
struct Additions {
  DeviceMemory src, dst;
  explicit Additions(Backend& backend)
      : src(contract::on_device<float>(backend, std::vector<float>(64, 1))), dst(must(backend.allocate(256))) {}
  void submit(Backend& backend, size_t width, size_t times = RecordedRuns::kLeastOperations) const {
    for (size_t i = 0; i < times; ++i) {
      require_ok(backend.launch(Stream::kDraft, AddArgs{as<float>(src), width, as<float>(dst), width, 1, width}));
    }
  }
  void run(Backend& backend, size_t width, size_t times = RecordedRuns::kLeastOperations) const {
    submit(backend, width, times);
    require_ok(outcome(backend, Stream::kDraft));
  }
  float first(Backend& backend) const {
    float value = 0;
    contract::get(backend, &value, dst.data(), sizeof value);
    return value;
  }
};

TEST_CASE("recorded runs: a run's second coming records it, and from the third on a graph gives its operations' bits at any position") {
  const FreshDevice device;
  const std::unique_ptr<Backend> backend = open_fake();
  const Layers graphs(*backend), apart(*backend);
  const uint64_t before = backend->work().operations;
  for (size_t step = 0; step < 6; ++step) {
    CAPTURE(step);
    const uint64_t launches = calls(CudaCall::kLaunch);
    graphs.step(508 + step, false);
    graphs.finish();
    REQUIRE(calls(CudaCall::kBeginCapture) == (step < 1 ? 0 : 1));
    REQUIRE(calls(CudaCall::kLaunchGraph) == (step < 2 ? 0 : step - 1));
    REQUIRE((calls(CudaCall::kLaunch) == launches) == (step >= 2));
    apart.step(508 + step, true);
    apart.finish();
    REQUIRE(is_equal(graphs, apart));
  }
  REQUIRE(calls(CudaCall::kLaunchGraph) == 4);
  const DeviceWorkCounts work = backend->work();
  REQUIRE(work.graphs == 4);
  REQUIRE(work.graph_operations % 4 == 0);
  REQUIRE(work.operations - before == 12 * work.graph_operations / 4);  // six steps of each
  REQUIRE(work.launches < work.operations - work.graph_operations);      // some are launched together
}

TEST_CASE("recorded runs: a host far ahead of the device changes no position under way") {
  const FreshDevice device;
  const std::unique_ptr<Backend> backend = open_fake();
  const Layers graphs(*backend), apart(*backend);
  constexpr size_t kSteps = 2 * RecordedRuns::kSlots;
  for (size_t step = 0; step < kSteps; ++step) graphs.step(step, false);
  for (size_t step = 0; step < kSteps; ++step) apart.step(step, true);
  REQUIRE(calls(CudaCall::kLaunchGraph) > 0);
  REQUIRE(is_equal(graphs, apart));
}

TEST_CASE("recorded runs: what begins like a recorded run and goes on or ends otherwise is launched") {
  const FreshDevice device;
  const std::unique_ptr<Backend> backend = open_fake();
  const Additions additions(*backend);
  for (int i = 0; i < 3; ++i) additions.run(*backend, 64, 20);
  REQUIRE(calls(CudaCall::kLaunchGraph) == 1);
  additions.run(*backend, 64, 15);
  additions.run(*backend, 64, 25);
  REQUIRE(additions.first(*backend) == 100);
  additions.submit(*backend, 64, 10);
  require_ok(backend->launch(Stream::kDraft, CopyArgs{additions.src.data(), additions.dst.data(), 4}));
  additions.run(*backend, 64, 3);
  REQUIRE(additions.first(*backend) == 4);
  REQUIRE(calls(CudaCall::kLaunchGraph) == 1);
  additions.run(*backend, 64, 20);
  REQUIRE(additions.first(*backend) == 24);
  REQUIRE(calls(CudaCall::kLaunchGraph) == 2);
}

TEST_CASE("recorded runs: runs are cut at the most operations, and other streams have their own") {
  const FreshDevice device;
  const std::unique_ptr<Backend> backend = open_fake();
  const Additions additions(*backend);
  for (int i = 0; i < 3; ++i) additions.run(*backend, 64, OperationRun::kMost + 10);
  REQUIRE(calls(CudaCall::kLaunchGraph) == 2);
  for (size_t i = 0; i < 10; ++i) require_ok(backend->launch(Stream::kCompute, contract::addition(additions.src, additions.dst)));
  require_ok(outcome(*backend, Stream::kCompute));
  REQUIRE(calls(CudaCall::kLaunchGraph) == 2);
  REQUIRE(additions.first(*backend) == 3 * (OperationRun::kMost + 10) + 10);
}

TEST_CASE("recorded runs: one that nobody used lately gives way, and none that was") {
  const FreshDevice device;
  const std::unique_ptr<Backend> backend = open_fake();
  const Additions additions(*backend);
  for (size_t width = 1; width <= RecordedRuns::kMost; ++width) {
    for (int i = 0; i < 2; ++i) additions.run(*backend, width);
  }
  REQUIRE(calls(CudaCall::kBeginCapture) == RecordedRuns::kMost);
  additions.run(*backend, 1);
  REQUIRE(calls(CudaCall::kLaunchGraph) == 1);
  for (int i = 0; i < 2; ++i) additions.run(*backend, 40);
  REQUIRE(calls(CudaCall::kBeginCapture) == RecordedRuns::kMost);
  for (uint64_t i = 0; i < RecordedRuns::kKeptUses; ++i) additions.run(*backend, 40);
  REQUIRE(calls(CudaCall::kBeginCapture) == RecordedRuns::kMost + 1);
  REQUIRE(calls(CudaCall::kDestroyGraph) == 1);
  const uint64_t before = calls(CudaCall::kLaunchGraph);
  additions.run(*backend, 40);
  additions.run(*backend, 1);
  REQUIRE(calls(CudaCall::kLaunchGraph) == before + 2);
  additions.run(*backend, 2);
  REQUIRE(calls(CudaCall::kLaunchGraph) == before + 2);
}

TEST_CASE("recorded runs: whatever fails of recording and of graphs, the run is launched, and is not tried again") {
  for (const CudaCall call : {CudaCall::kBeginCapture, CudaCall::kEndCapture, CudaCall::kLaunch, CudaCall::kLaunchGraph}) {
    CAPTURE(static_cast<int>(call));
    const FreshDevice device;
    const std::unique_ptr<Backend> backend = open_fake();
    const Layers graphs(*backend), apart(*backend);
    const uint64_t before = calls(call);
    graphs.step(0, false);
    // A launch: one of those that are recorded.
    FakeDevice::get().inject(call, call == CudaCall::kLaunch ? before + 2 * (calls(call) - before) + 3 : 1, CudaFault::kOutOfMemory);
    for (size_t step = 1; step < 5; ++step) graphs.step(step, false);
    REQUIRE(FakeDevice::get().has_happened());
    REQUIRE(calls(CudaCall::kBeginCapture) == 1);
    REQUIRE(calls(CudaCall::kLaunchGraph) == (call == CudaCall::kLaunchGraph ? 1 : 0));
    for (size_t step = 0; step < 5; ++step) apart.step(step, true);
    REQUIRE(is_equal(graphs, apart));
  }
}

TEST_CASE("recorded runs: positions that cannot be sent have the run launched, this once") {
  const FreshDevice device;
  const std::unique_ptr<Backend> backend = open_fake();
  const Layers graphs(*backend), apart(*backend);
  for (size_t step = 0; step < 2; ++step) graphs.step(step, false);
  FakeDevice::get().inject(CudaCall::kCopy, calls(CudaCall::kCopy) + 1, CudaFault::kOutOfMemory);
  for (size_t step = 2; step < 4; ++step) graphs.step(step, false);
  REQUIRE(FakeDevice::get().has_happened());
  REQUIRE(calls(CudaCall::kLaunchGraph) == 1);
  for (size_t step = 0; step < 4; ++step) apart.step(step, true);
  REQUIRE(is_equal(graphs, apart));
}

TEST_CASE("recorded runs: every argument but the first position is part of what a run is") {
  const auto differs = [](auto args, auto change) {
    auto other = args;
    change(other);
    return key_of(args) != key_of(other);
  };
  const AttentionArgs attention{};
  REQUIRE_FALSE(differs(attention, [](AttentionArgs& args) { args.first_position = 7; }));
  REQUIRE(differs(attention, [](AttentionArgs& args) { args.capacity = 16; }));
  REQUIRE(differs(attention, [](AttentionArgs& args) { args.scale = 1; }));
  REQUIRE(differs(attention, [](AttentionArgs& args) { args.type = KvType::kQ8_0; }));
  REQUIRE(differs(attention, [](AttentionArgs& args) { args.scratch += 64; }));
  const AppendKvArgs append{};
  REQUIRE_FALSE(differs(append, [](AppendKvArgs& args) { args.first_position = 7; }));
  REQUIRE(differs(append, [](AppendKvArgs& args) { args.tokens = 2; }));
  REQUIRE(differs(append, [](AppendKvArgs& args) { args.type = KvType::kF32; }));
  REQUIRE(differs(append, [](AppendKvArgs& args) { args.v_cache = &args; }));
  REQUIRE(differs(MatmulArgs{}, [](MatmulArgs& args) { args.accumulate = true; }));
  REQUIRE(differs(MatmulArgs{}, [](MatmulArgs& args) { args.stored_columns = 32; }));
  REQUIRE(differs(MatmulArgs{}, [](MatmulArgs& args) { args.panel += 64; }));
  REQUIRE(differs(RopeArgs{}, [](RopeArgs& args) { args.style = RopeStyle::kHalves; }));
  REQUIRE(differs(RmsNormArgs{}, [](RmsNormArgs& args) { args.epsilon = 1e-5f; }));
  REQUIRE(differs(RemainderArgs{}, [](RemainderArgs& args) { args.remainder += 1; }));
  REQUIRE(differs(RoundArgs{}, [](RoundArgs& args) { args.of.width = 32; }));
  REQUIRE(key_of(QuantizeArgs{}) != key_of(RemainderArgs{}));
}

TEST_CASE("recorded runs: attention whose parts the scratch has no room for, at the whole cache, is nothing to record") {
  AttentionArgs attention{};
  attention.tokens = attention.kv_heads = 1, attention.heads = 32, attention.capacity = 262144;
  OperationRun run;
  run.add(attention);
  REQUIRE(run.is_repeatable());
  attention.capacity += 16;
  run.add(attention);
  REQUIRE_FALSE(run.is_repeatable());
  run.clear();
  REQUIRE(run.is_repeatable());
}

}  // namespace
}  // namespace outrigger::cuda
