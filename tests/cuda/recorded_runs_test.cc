// Runs of operations that are launched as graphs: by the backend, on a fake device.
#include "cuda/device/recorded_runs.h"

#include <cmath>

#include "cuda/device/cuda_backend.h"
#include "src/kernels/activations.h"
#include "tests/contract/backend_case.h"
#include "tests/cuda/fake_device.h"

namespace outrigger::cuda {
namespace {

using contract::as;
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
  options.architectures = "90";
  return must(open_cuda_device(FakeDevice::api(), options));
}

uint64_t calls(CudaCall call) { return FakeDevice::get().calls(call); }

// A few layers' worth of operations on memory of its own. What a step computes is the next one's input.
class Layers {
 public:
  static constexpr size_t kHeads = 2, kHeadDim = 32, kWidth = kHeads * kHeadDim, kCapacity = 1040, kLayers = 3;

  explicit Layers(Backend& backend)
      : backend_(backend),
        q_(contract::on_device<float>(backend, values())),
        keys_(zeros(kv_head_offset(KvType::kF16, kHeadDim, kCapacity, 1))),
        values_(zeros(keys_.bytes())),
        dst_(zeros(kWidth * 4)),
        gate_(zeros(2 * kWidth * 4)),
        panel_(zeros(activation_panel_bytes(1, kWidth))),
        scratch_(zeros(backend.scratch_bytes(attention(0)))),
        weights_(contract::on_device<std::byte>(
            backend, std::vector<std::byte>(packed_bytes(PackedKind::kQ4_0, kWidth, kWidth), std::byte{0x3a}))) {}

  /// One operation at a time is never a run that is recorded.
  void step(size_t position, bool apart) const {
    const auto submit = [&](const DeviceOp& op) {
      require_ok(backend_.launch(Stream::kCompute, op));
      if (apart) must(backend_.record(Stream::kCompute));
    };
    for (size_t layer = 0; layer < kLayers; ++layer) {
      AppendKvArgs append{};
      append.k = as<float>(q_), append.v = as<float>(q_) + kHeadDim, append.k_stride = append.v_stride = kWidth;
      append.k_cache = keys_.data(), append.v_cache = values_.data();
      append.tokens = append.kv_heads = 1, append.head_dim = kHeadDim, append.capacity = kCapacity,
      append.first_position = position + layer;
      submit(append);
      submit(attention(position + layer));
      submit(QuantizeArgs{as<float>(dst_), kWidth, panel_.data(), 1, kWidth});
      submit(product(0));
      submit(product(1));
      if (layer + 1 == kLayers) break;  // products that nothing comes after
      submit(AddArgs{as<float>(gate_) + kWidth, kWidth, as<float>(q_), kWidth, 1, kWidth});
    }
    must(backend_.record(Stream::kCompute));
  }
  void finish() const { require_ok(outcome(backend_, Stream::kCompute)); }
  std::vector<std::byte> result() const {
    finish();
    std::vector<std::byte> all;
    for (const DeviceMemory* memory : {&q_, &keys_, &values_, &dst_, &gate_}) {
      const std::vector<std::byte> bytes = contract::bytes_of(backend_, *memory);
      all.insert(all.end(), bytes.begin(), bytes.end());
    }
    return all;
  }

 private:
  static std::vector<float> values() {
    std::vector<float> values(kWidth);
    for (size_t i = 0; i < kWidth; ++i) values[i] = std::sin(static_cast<float>(i * i));
    return values;
  }
  DeviceMemory zeros(uint64_t bytes) const { return must(backend_.allocate(bytes)); }

  AttentionArgs attention(size_t position) const {
    AttentionArgs args{};
    args.q = as<float>(q_), args.q_stride = kWidth, args.k_cache = keys_.data(), args.v_cache = values_.data();
    args.dst = as<float>(dst_), args.dst_stride = kWidth;
    args.tokens = args.kv_heads = 1, args.heads = kHeads, args.head_dim = kHeadDim, args.capacity = kCapacity;
    args.first_position = position, args.scale = 0.2f, args.scratch = scratch_.data();
    return args;
  }
  MatmulArgs product(size_t which) const {
    MatmulArgs args{};
    args.kind = PackedKind::kQ4_0, args.weights = weights_.data(), args.rows = args.columns = kWidth, args.panel = panel_.data();
    args.dst = as<float>(gate_) + which * kWidth, args.dst_stride = 2 * kWidth, args.tokens = 1;
    return args;
  }

  Backend& backend_;
  DeviceMemory q_, keys_, values_, dst_, gate_, panel_, scratch_, weights_;
};

bool is_equal(const Layers& a, const Layers& b) { return a.result() == b.result(); }

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
