// The CUDA backend on a fake device: the contract of all backends, what is its own, and every call of the runtime failing in turn.
#include "cuda/device/cuda_backend.h"

#include "src/base/macros.h"
#include "tests/contract/backend_contract.h"
#include "tests/contract/backend_handoff_contract.h"
#include "tests/contract/backend_op_contract.h"
#include "tests/contract/backend_repeat_contract.h"
#include "tests/contract/backend_work_contract.h"
#include "tests/cuda/fake_device.h"

namespace outrigger::cuda {
namespace {

using contract::kPatience;
using contract::must;
using contract::require_ok;

CudaDeviceOptions device_number(int device) {
  CudaDeviceOptions options;
  options.repeats_runs = true;
  options.device = device;
  options.architectures = "90";
  options.patience = kPatience;
  return options;
}

std::unique_ptr<Backend> open_fake() { return must(open_cuda_device(FakeDevice::api(), device_number(0))); }

// As it is opened unless graphs are asked for.
std::unique_ptr<Backend> open_without_graphs() {
  CudaDeviceOptions options = device_number(0);
  options.repeats_runs = false;
  return must(open_cuda_device(FakeDevice::api(), options));
}

// A case's device: everything must have been given back, and nothing been done that a real one would punish.
class FreshDevice {
 public:
  explicit FreshDevice(const FakeFacts& facts = {}) { FakeDevice::get().reset(facts); }
  ~FreshDevice() {
    CHECK(FakeDevice::get().live_objects() == 0);
    CHECK(FakeDevice::get().misuses() == 0);
  }
};

TEST_CASE("cuda backend: keeps the contract of memory") {
  const FreshDevice device;
  contract::check_memory_contract(open_fake);
}
TEST_CASE("cuda backend: keeps the contract of copies") {
  const FreshDevice device;
  contract::check_copy_contract(open_fake);
}
TEST_CASE("cuda backend: keeps the contract of streams") {
  const FreshDevice device;
  contract::check_stream_contract(open_fake);
}
TEST_CASE("cuda backend: keeps the contract of failures") {
  const FreshDevice device;
  contract::check_failure_contract(open_fake);
}
TEST_CASE("cuda backend: keeps the contract of operations") {
  const FreshDevice device;
  contract::check_op_contract(open_fake);
}
TEST_CASE("cuda backend: keeps the contract of handoffs, with graphs and without") {
  for (const auto open : {open_fake, open_without_graphs}) {
    const FreshDevice device;
    contract::check_handoff_contract(open);
  }
}
TEST_CASE("cuda backend: a card that cannot look at the host's memory, or is told not to, has no handoffs and says so") {
  for (const bool can : {false, true}) {
    CAPTURE(can);
    FakeFacts facts;
    facts.can_hand_over = can;
    const FreshDevice device(facts);
    CudaDeviceOptions options = device_number(0);
    options.hands_over = !can;
    const std::unique_ptr<Backend> backend = must(open_cuda_device(FakeDevice::api(), options));
    REQUIRE_FALSE(backend->supports(DeviceOpKind::kSend, PackedKind{}));
    REQUIRE_FALSE(backend->supports(DeviceOpKind::kReceive, PackedKind{}));
    REQUIRE(backend->supports(DeviceOpKind::kAdd, PackedKind{}));
    const contract::Turns turns(*backend, 16);
    const Status status = backend->launch(Stream::kCompute, turns.send(1));
    REQUIRE(status.code() == StatusCode::kInvalidArgument);
    REQUIRE(status.message().starts_with("send: got a device that cannot"));
    contract::finish(*backend);
  }
}
TEST_CASE("cuda backend: repeats steps with the bits of their operations") {
  const FreshDevice device;
  contract::check_repeat_contract(open_fake);
}

TEST_CASE("cuda backend: keeps the contract of streams without graphs") {
  const FreshDevice device;
  contract::check_stream_contract(open_without_graphs);
}

TEST_CASE("cuda backend: keeps the contract of operations without graphs, and records none") {
  const FreshDevice device;
  contract::check_op_contract(open_without_graphs);
  contract::check_repeat_contract(open_without_graphs);
  CHECK(FakeDevice::get().calls(CudaCall::kBeginCapture) == 0);
}

TEST_CASE("cuda backend: what cannot be opened is told by name") {
  const auto refusal = [](const FakeFacts& facts, int number) {
    const FreshDevice device(facts);
    const Status status = open_cuda_device(FakeDevice::api(), device_number(number)).status();
    REQUIRE(status.code() == StatusCode::kUnavailable);
    return status.message();
  };
  const auto names = [](const std::string& message, const char* what) {
    CAPTURE(message, what);
    return message.find(what) != std::string::npos;
  };
  FakeFacts facts;
  facts.count_code = 35;
  REQUIRE(names(refusal(facts, 0), "error 35"));
  facts = {};
  facts.devices = 0;
  REQUIRE(names(refusal(facts, 0), "there is no GPU"));
  facts.devices = 2;
  REQUIRE(names(refusal(facts, 2), "are only cuda:0 to cuda:1"));
  REQUIRE(names(refusal({}, 1), "is only cuda:0"));
  facts = {};
  facts.compute_major = 7, facts.compute_minor = 0;
  REQUIRE(names(refusal(facts, 0), "compute capability 7.0, need 7.5"));
}

TEST_CASE("cuda backend: has the card's name, and the memory that is free") {
  const FreshDevice device;
  const std::unique_ptr<Backend> backend = open_fake();
  REQUIRE(backend->inventory().name == "cuda:0 Fake");
  const uint64_t before = backend->inventory().free_bytes;
  const DeviceMemory memory = must(backend->allocate(3 << 20));
  REQUIRE(backend->inventory().free_bytes == before - (3 << 20));
  const Status full = backend->allocate(before).status();
  REQUIRE(full.code() == StatusCode::kOutOfMemory);
  REQUIRE(full.needed_bytes() == before);
  REQUIRE(full.given_bytes() == before - (3 << 20));
}

TEST_CASE("cuda backend: tells what the card lost to it besides allocations, where that can be known") {
  for (const bool knows_free : {true, false}) {
    FakeFacts facts;
    facts.context_bytes = 5 << 20;
    facts.knows_free = knows_free;
    const FreshDevice device(facts);
    const std::unique_ptr<Backend> backend = open_fake();
    const uint64_t taken = backend->inventory().taken_bytes;
    CHECK(taken >= (knows_free ? 5 << 20 : 0));
    CHECK(taken <= (knows_free ? (5 << 20) + 65536 : 0));  // memory of its own is rounded up
    const DeviceMemory memory = must(backend->allocate(3 << 20));
    CHECK(backend->inventory().taken_bytes <= taken + 4096);
    CHECK(backend->inventory().free_bytes <= (64 << 20) - (8 << 20));
  }
}

TEST_CASE("cuda backend: each thread works on the backend's device, whatever it had before") {
  FakeFacts facts;
  facts.devices = 2;
  const FreshDevice device(facts);
  const std::unique_ptr<Backend> second = must(open_cuda_device(FakeDevice::api(), device_number(1)));
  const std::unique_ptr<Backend> first = open_fake();
  REQUIRE(second->inventory().name == "cuda:1 Fake");
  for (Backend* const backend : {second.get(), first.get(), second.get()}) {
    const DeviceMemory memory = must(backend->allocate(4096));
    require_ok(backend->launch(Stream::kDraft, contract::addition(memory, memory)));
    Status status;
    std::thread([&] { status = backend->launch(Stream::kDraft, contract::addition(memory, memory)); }).join();
    require_ok(status);
    require_ok(contract::outcome(*backend, Stream::kDraft));
  }
}

TEST_CASE("cuda backend: a copy between pieces that were pinned apart is made in parts") {
  const FreshDevice device;
  const std::unique_ptr<Backend> backend = open_fake();
  constexpr uint64_t kGiB = 1 << 30, kBytes = 10000;
  const uint64_t before = FakeDevice::get().calls(CudaCall::kPin);
  const PinnedMemory pinned = must(backend->allocate_pinned(kGiB + kBytes));  // becomes memory where it is touched
  REQUIRE(FakeDevice::get().calls(CudaCall::kPin) == before + 2);
  std::byte* const border = pinned.data() + (kGiB - reinterpret_cast<uintptr_t>(pinned.data()) % kGiB);
  std::byte* const host = border - std::min<uint64_t>(3000, static_cast<uint64_t>(border - pinned.data()));
  for (uint64_t i = 0; i < kBytes; ++i) host[i] = static_cast<std::byte>(i % 251);
  const DeviceMemory memory = must(backend->allocate(kBytes));
  require_ok(backend->copy_to_device(Stream::kToDevice, memory.data(), host, kBytes));
  require_ok(contract::outcome(*backend, Stream::kToDevice));
  const std::vector<std::byte> copied = contract::bytes_of(*backend, memory);
  REQUIRE(std::equal(copied.begin(), copied.end(), host));
}

TEST_CASE("cuda backend: an event that the ring has forgotten is ready once its work is done, and orders it") {
  const FreshDevice device;
  const std::unique_ptr<Backend> backend = open_fake();
  const std::vector<float> ones(64, 1);
  const DeviceMemory step = contract::on_device<float>(*backend, ones), sum = must(backend->allocate(step.bytes()));
  Event first;
  for (uint64_t i = 0; i < CudaStream::kRing + 10; ++i) {
    require_ok(backend->launch(Stream::kCompute, contract::addition(step, sum)));
    const Event event = must(backend->record(Stream::kCompute));
    if (i == 0) first = event;
  }
  require_ok(backend->wait(Stream::kToHost, first));
  require_ok(backend->synchronize(first, kPatience));
  REQUIRE(must(backend->query(first)));
  const uint64_t before = FakeDevice::get().calls(CudaCall::kRecordEvent);
  const Event again = must(backend->record(Stream::kCompute));
  REQUIRE(must(backend->record(Stream::kCompute)).sequence == again.sequence);
  REQUIRE(FakeDevice::get().calls(CudaCall::kRecordEvent) == before);  // nothing new, no new event
  REQUIRE(backend->query(Event{Stream::kCompute, again.sequence + 1}).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("cuda backend: memory that can be pinned only in part is given back, with what was pinned of it") {
  const FreshDevice device;
  const std::unique_ptr<Backend> backend = open_fake();
  const size_t before = FakeDevice::get().live_objects();
  FakeDevice::get().inject(CudaCall::kPin, FakeDevice::get().calls(CudaCall::kPin) + 2, CudaFault::kOutOfMemory);
  const Status status = backend->allocate_pinned((uint64_t{1} << 30) + 1).status();
  REQUIRE(status.code() == StatusCode::kOutOfMemory);
  REQUIRE(status.needed_bytes() == (1 << 30) + 1);
  REQUIRE(FakeDevice::get().live_objects() == before);
}

TEST_CASE("cuda backend: a point behind nothing but a wait is ready after what is waited for") {
  const FreshDevice device;
  const std::unique_ptr<Backend> backend = open_fake();
  const DeviceMemory memory = must(backend->allocate(1 << 16));
  for (int i = 0; i < 50; ++i) require_ok(backend->launch(Stream::kCompute, contract::addition(memory, memory)));
  const Event computed = must(backend->record(Stream::kCompute));
  require_ok(backend->wait(Stream::kToHost, computed));
  require_ok(backend->synchronize(must(backend->record(Stream::kToHost)), kPatience));
  REQUIRE(must(backend->query(computed)));
}

TEST_CASE("cuda backend: what the runtime reports late is a failure that stays") {
  const FreshDevice device;
  const std::unique_ptr<Backend> backend = open_fake();
  const DeviceMemory memory = must(backend->allocate(4096));
  FakeDevice::get().inject(CudaCall::kQueryEvent, FakeDevice::get().calls(CudaCall::kQueryEvent) + 1, CudaFault::kIllegalAddress);
  require_ok(backend->launch(Stream::kCompute, contract::addition(memory, memory)));
  const Status status = contract::outcome(*backend, Stream::kCompute);
  REQUIRE(status.code() == StatusCode::kDevice);
  REQUIRE(status.message().find("an illegal memory access was encountered (error 700)") != std::string::npos);
  REQUIRE(backend->allocate(1).status().message() == status.message());
  REQUIRE(backend->inventory().memory_bytes > 0);
}

TEST_CASE("cuda backend: a device that does not answer is given up when memory is given back") {
  const FreshDevice device;
  CudaDeviceOptions options = device_number(0);
  options.patience = std::chrono::milliseconds(500);
  const std::unique_ptr<Backend> backend = must(open_cuda_device(FakeDevice::api(), options));
  DeviceMemory memory = must(backend->allocate(4096));
  FakeDevice::get().inject(CudaCall::kLaunch, FakeDevice::get().calls(CudaCall::kLaunch) + 1, CudaFault::kHang);
  require_ok(backend->launch(Stream::kCompute, contract::addition(memory, memory)));
  const Event done = must(backend->record(Stream::kCompute));
  REQUIRE(backend->synchronize(done, std::chrono::milliseconds(1)).message().find("not done after") != std::string::npos);
  REQUIRE_FALSE(must(backend->query(done)));  // which did not stay
  memory = DeviceMemory();
  REQUIRE(backend->query(done).status().message().find("given up") != std::string::npos);
}

// Open, allocate, copy, compute, copy back, free and close, by way of every call that a backend makes of the runtime.
Status work(CudaFault fault, std::unique_ptr<Backend>* backend) {
  const bool may_hang = fault == CudaFault::kHang;
  CudaDeviceOptions options = device_number(0);
  if (may_hang) options.patience = std::chrono::milliseconds(20);
  OTR_ASSIGN(*backend, open_cuda_device(FakeDevice::api(), options));
  Backend& device = **backend;
  REQUIRE(device.inventory().memory_bytes > 0);
  OTR_ASSIGN(const DeviceMemory memory, device.allocate(8192));
  OTR_ASSIGN(const PinnedMemory pinned, device.allocate_pinned(8192));
  std::memset(pinned.data(), 0, 8192);
  for (int i = 0; i < 2; ++i) {
    OTR_TRY(device.copy_to_device(Stream::kToDevice, memory.data(), pinned.data(), 4096));
    OTR_ASSIGN(const Event sent, device.record(Stream::kToDevice));
    OTR_TRY(device.wait(Stream::kCompute, sent));
    float* const floats = contract::as<float>(memory);
    OTR_TRY(device.launch(Stream::kCompute, AddArgs{floats, 1024, floats + 1024, 1024, 1, 1024}));
    OTR_TRY(device.copy_to_host(Stream::kCompute, pinned.data() + 4096, memory.data() + 4096, 4096));
    OTR_ASSIGN(const Event done, device.record(Stream::kCompute));
    OTR_TRY(device.synchronize(done, may_hang ? std::chrono::milliseconds(20) : std::chrono::milliseconds(kPatience)));
  }
  return {};
}

// The same run of operations, until it is a graph.
Status work_repeatedly(CudaFault fault, std::unique_ptr<Backend>* backend) {
  CudaDeviceOptions options = device_number(0);
  if (fault == CudaFault::kHang) options.patience = std::chrono::milliseconds(20);
  OTR_ASSIGN(*backend, open_cuda_device(FakeDevice::api(), options));
  OTR_ASSIGN(const DeviceMemory memory, (*backend)->allocate(8192));
  AppendKvArgs append{};
  append.k = append.v = contract::as<float>(memory), append.k_stride = append.v_stride = 32;
  append.k_cache = memory.data() + 2048, append.v_cache = memory.data() + 4096;
  append.tokens = append.kv_heads = 1, append.head_dim = 32, append.capacity = 16;
  for (size_t i = 0; i < 4; ++i) {
    append.first_position = i;
    for (int times = 0; times < 8; ++times) OTR_TRY((*backend)->launch(Stream::kCompute, append));
    OTR_ASSIGN(const Event done, (*backend)->record(Stream::kCompute));
    OTR_TRY((*backend)->synchronize(done, options.patience));
  }
  return {};
}

// Whether a call that goes wrong must show in what work() returns.
bool is_told(CudaCall call, CudaFault fault) {
  switch (call) {
    case CudaCall::kMemory:
    case CudaCall::kRelease:
    case CudaCall::kUnpin:
    case CudaCall::kDestroyStream:
    case CudaCall::kDestroyEvent:
    case CudaCall::kDestroyGraph:
      return false;  // asked for a figure only, or behind the work
    case CudaCall::kBeginCapture:
    case CudaCall::kEndCapture:
    case CudaCall::kLaunchGraph:
    case CudaCall::kQueryEvent:
      return false;  // asked again, or behind the work, when memory is given back
    case CudaCall::kRecordEvent:
      return fault == CudaFault::kIllegalAddress;  // asked again
    default:
      return fault != CudaFault::kHang;  // a device that hangs late may have done all work
  }
}

using Work = Status (*)(CudaFault fault, std::unique_ptr<Backend>* backend);

void check_each_fault(Work work, bool is_repeated) {
  // A launch or a copy of positions that a graph is made of is made good by launching.
  const auto may_be_recorded = [is_repeated](CudaCall call, CudaFault fault) {
    return is_repeated && fault == CudaFault::kOutOfMemory && (call == CudaCall::kLaunch || call == CudaCall::kCopy);
  };
  std::array<uint64_t, kCudaCalls> counts{};
  {
    const FreshDevice device;
    std::unique_ptr<Backend> backend;
    require_ok(work(CudaFault::kOutOfMemory, &backend));
    backend.reset();
    for (size_t c = 0; c < kCudaCalls; ++c) counts[c] = FakeDevice::get().calls(static_cast<CudaCall>(c));
  }
  for (size_t c = 0; c < kCudaCalls; ++c) {
    for (uint64_t nth = 1; nth <= counts[c]; ++nth) {
      if (nth == 5 && counts[c] > 40) nth = counts[c] - 3;  // making a ring's events: the first few and the last
      for (size_t f = 0; f < kCudaFaults; ++f) {
        const auto call = static_cast<CudaCall>(c);
        const auto fault = static_cast<CudaFault>(f);
        const FreshDevice device;
        FakeDevice::get().inject(call, nth, fault);
        std::unique_ptr<Backend> backend;
        const Status status = work(fault, &backend);
        CAPTURE(c, nth, f, status.to_string());
        const bool has_happened = FakeDevice::get().has_happened();
        const bool is_opening = backend == nullptr;
        if (status.is_ok()) {
          REQUIRE_FALSE((has_happened && is_told(call, fault) && !may_be_recorded(call, fault)));
        } else if (fault == CudaFault::kOutOfMemory) {
          const bool is_asking = call == CudaCall::kDeviceCount || call == CudaCall::kDeviceFacts;
          REQUIRE(status.code() == (is_asking ? StatusCode::kUnavailable : StatusCode::kOutOfMemory));
        } else {
          REQUIRE((status.code() == StatusCode::kDevice || (is_opening && status.code() == StatusCode::kUnavailable)));
        }
        if (is_opening || !has_happened) continue;
        const Status after = backend->allocate(4096).status();
        CAPTURE(after.to_string());
        REQUIRE(after.code() == (fault == CudaFault::kOutOfMemory ? StatusCode::kOk : StatusCode::kDevice));
        backend.reset();
        REQUIRE(FakeDevice::get().has_happened());
      }
    }
  }
}

TEST_CASE("cuda backend: each call of the runtime may fail in each way: it is told, nothing hangs, and everything is given back") {
  check_each_fault(work, false);
}

TEST_CASE("cuda backend: so may each call for a run that becomes a graph") { check_each_fault(work_repeatedly, true); }

}  // namespace
}  // namespace outrigger::cuda
