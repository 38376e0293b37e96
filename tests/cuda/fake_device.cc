// A CUDA runtime on the host.
#include "tests/cuda/fake_device.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "tests/cuda/emulator/emulator.h"

namespace outrigger::cuda {
namespace {

constexpr CudaCode kInvalidValue = 1, kInvalidDevice = 101, kInvalidHandle = 400, kCaptureUnsupported = 900;
constexpr uint64_t kSmall = 1 << 20, kOffset = 256;
constexpr size_t kQueueDepth = 1024, kMostArguments = 16, kMostArgumentBytes = 1024;

thread_local int current_device = 0;

bool overlap(const void* a, uint64_t a_bytes, const void* b, uint64_t b_bytes) {
  const auto x = reinterpret_cast<uintptr_t>(a), y = reinterpret_cast<uintptr_t>(b);
  return x < y + b_bytes && y < x + a_bytes;
}

}  // namespace

struct FakeDevice::Task {
  enum class Kind : uint8_t { kCopy, kClear, kKernel, kWait, kGraph } kind = Kind::kCopy;
  void* dst = nullptr;
  const void* src = nullptr;
  uint64_t bytes = 0;
  Stream* of = nullptr;  // kWait: until so much of that stream is done
  uint64_t position = 0;
  Graph* graph = nullptr;
  KernelCall call;
  std::array<uint16_t, kMostArguments> offsets{};
  alignas(16) std::array<std::byte, kMostArgumentBytes> arguments{};
};

struct FakeDevice::Graph {
  std::vector<Task> tasks;
};

struct FakeDevice::Stream {
  int device = 0;
  std::vector<Task> ring{kQueueDepth};
  size_t first = 0, size = 0;
  uint64_t submitted = 0, done = 0;
  bool is_stopping = false;
  std::unique_ptr<Graph> capture;
  std::thread thread;
};

struct FakeDevice::Event {
  Stream* stream = nullptr;
  uint64_t position = 0;
};

FakeDevice::FakeDevice() = default;
FakeDevice::~FakeDevice() = default;

FakeDevice& FakeDevice::get() {
  static FakeDevice device;
  return device;
}

void FakeDevice::reset(const FakeFacts& facts) {
  const Lock lock(mutex_);
  facts_ = facts;
  counts_ = {};
  fault_at_ = 0;
  has_happened_ = is_broken_ = is_hung_ = false;
  live_ = misuses_ = 0;
  streams_.clear();
}

void FakeDevice::inject(CudaCall call, uint64_t nth, CudaFault fault) {
  const Lock lock(mutex_);
  fault_call_ = call, fault_at_ = nth, fault_ = fault;
}

bool FakeDevice::has_happened() const {
  const Lock lock(mutex_);
  return has_happened_;
}
uint64_t FakeDevice::calls(CudaCall call) const {
  const Lock lock(mutex_);
  return counts_[static_cast<size_t>(call)];
}
size_t FakeDevice::live_objects() const {
  const Lock lock(mutex_);
  return live_;
}
size_t FakeDevice::misuses() const {
  const Lock lock(mutex_);
  return misuses_;
}

CudaCode FakeDevice::enter(CudaCall call) {
  const bool is_hit = ++counts_[static_cast<size_t>(call)] == fault_at_ && call == fault_call_;
  if (is_hit) {
    has_happened_ = true;
    is_broken_ |= fault_ == CudaFault::kIllegalAddress;
    is_hung_ |= fault_ == CudaFault::kHang;
    changed_.notify_all();
    if (fault_ == CudaFault::kOutOfMemory) return kCudaOutOfMemory;
  }
  return is_broken_ ? kCudaIllegalAddress : kCudaOk;
}

CudaCode FakeDevice::leave(CudaCode code) {
  if (code == kInvalidValue || code == kInvalidHandle) ++misuses_;
  return code;
}

bool FakeDevice::is_reachable(const void* address, uint64_t bytes) const {
  const auto at = reinterpret_cast<uintptr_t>(address);
  const auto holds = [&](const auto& ranges, auto bytes_of) {
    auto range = ranges.upper_bound(at);
    if (range == ranges.begin()) return false;
    --range;
    return at - range->first <= bytes_of(range->second) && bytes <= bytes_of(range->second) - (at - range->first);
  };
  return holds(memory_, [](const Memory& memory) { return memory.bytes; }) || holds(pinned_, [](uint64_t pinned) { return pinned; });
}

// A device that is made to hang is soon given up, on a busy machine even before it hangs: what it has not done yet is no misuse.
bool FakeDevice::counts_use() const { return !is_hung_ && !is_broken_ && (fault_at_ == 0 || fault_ != CudaFault::kHang); }

// What was running when the device failed ends soon, and may be using anything.
void FakeDevice::settle(Lock& lock) {
  const auto is_idle = [this] {
    return std::all_of(streams_.begin(), streams_.end(), [](const auto& stream) { return stream->size == 0; });
  };
  changed_.wait(lock, [&] { return running_ == 0 && (is_hung_ || is_broken_ || is_idle()); });
}

bool FakeDevice::is_in_use(const void* address, uint64_t bytes) const {
  for (const auto& stream : streams_) {
    for (size_t i = 0; i < stream->size; ++i) {
      const Task& task = stream->ring[(stream->first + i) % kQueueDepth];
      if (task.kind != Task::Kind::kCopy && task.kind != Task::Kind::kClear) continue;
      if (overlap(task.dst, task.bytes, address, bytes) || (task.src != nullptr && overlap(task.src, task.bytes, address, bytes)))
        return true;
    }
  }
  return false;
}

bool FakeDevice::is_in_use(const Graph* graph) const {
  for (const auto& stream : streams_) {
    for (size_t i = 0; i < stream->size; ++i) {
      const Task& task = stream->ring[(stream->first + i) % kQueueDepth];
      if (task.kind == Task::Kind::kGraph && task.graph == graph) return true;
    }
  }
  return false;
}

CudaCode FakeDevice::submit(Lock& lock, Stream* stream, const Task& task) {
  if (stream->device != current_device) return leave(kInvalidHandle);
  if (stream->capture) {
    if (task.kind == Task::Kind::kWait || task.kind == Task::Kind::kGraph) return kCaptureUnsupported;
    stream->capture->tasks.push_back(task);
    return kCudaOk;
  }
  changed_.wait(lock, [&] { return stream->size < kQueueDepth || is_broken_ || is_hung_; });
  if (stream->size == kQueueDepth) return kCudaOk;  // work that will never be done
  stream->ring[(stream->first + stream->size++) % kQueueDepth] = task;
  ++stream->submitted;
  changed_.notify_all();
  return kCudaOk;
}

void FakeDevice::run_task(const Task& task) {
  switch (task.kind) {
    case Task::Kind::kCopy:
      std::memcpy(task.dst, task.src, task.bytes);
      return;
    case Task::Kind::kClear:
      std::memset(task.dst, 0, task.bytes);
      return;
    case Task::Kind::kWait:
      return;
    case Task::Kind::kGraph:
      for (const Task& part : task.graph->tasks) run_task(part);
      return;
    case Task::Kind::kKernel: {
      void* arguments[kMostArguments];
      for (uint32_t i = 0; i < task.call.argument_count; ++i)
        arguments[i] = const_cast<std::byte*>(task.arguments.data()) + task.offsets[i];
      KernelCall call = task.call;
      call.arguments = arguments;
      static std::mutex one_at_a_time;
      const std::lock_guard lock(one_at_a_time);
      emulator::run(call);
    }
  }
}

void FakeDevice::run_stream(Stream* stream) {
  Lock lock(mutex_);
  for (;;) {
    const auto may_begin = [&] {
      if (stream->size == 0 || is_hung_) return false;
      const Task& task = stream->ring[stream->first];
      return is_broken_ || task.kind != Task::Kind::kWait || task.of->done >= task.position;
    };
    changed_.wait(lock, [&] { return stream->is_stopping || may_begin(); });
    if (stream->is_stopping) return;
    if (!is_broken_) {
      const Task& task = stream->ring[stream->first];  // stays while it is the first
      ++running_;
      lock.unlock();
      run_task(task);
      lock.lock();
      --running_;
    }
    stream->first = (stream->first + 1) % kQueueDepth;
    --stream->size;
    ++stream->done;
    changed_.notify_all();
  }
}

/// The table's functions, each with the lock.
struct FakeCalls {
  using Lock = FakeDevice::Lock;
  using Task = FakeDevice::Task;
  static FakeDevice::Stream* of(StreamHandle stream) { return reinterpret_cast<FakeDevice::Stream*>(stream); }
  static FakeDevice::Event* of(EventHandle event) { return reinterpret_cast<FakeDevice::Event*>(event); }
  static FakeDevice::Graph* of(GraphHandle graph) { return reinterpret_cast<FakeDevice::Graph*>(graph); }

  /// act(device, lock) -> CudaCode, if the call is to be well.
  template <typename Act>
  static CudaCode call(CudaCall which, Act act) {
    FakeDevice& device = FakeDevice::get();
    Lock lock(device.mutex_);
    const CudaCode code = device.enter(which);
    return code == kCudaOk ? act(device, lock) : code;
  }
  /// The same of calls that give back: the act comes first.
  template <typename Act>
  static CudaCode give_back(CudaCall which, Act act) {
    FakeDevice& device = FakeDevice::get();
    Lock lock(device.mutex_);
    const CudaCode code = device.enter(which), result = act(device, lock);
    return code == kCudaOk ? result : code;
  }

  static const char* error_text(CudaCode code) {
    return code == kCudaIllegalAddress ? "an illegal memory access was encountered"
           : code == kCudaOutOfMemory  ? "out of memory"
                                       : "an error of the fake";
  }
  static CudaCode device_count(int* count) {
    return call(CudaCall::kDeviceCount,
                [=](FakeDevice& device, Lock&) { return *count = device.facts_.devices, device.facts_.count_code; });
  }
  // No call of the runtime, so that none of its faults hits it.
  static bool free_before(int, uint64_t* free_bytes) {
    FakeDevice& device = FakeDevice::get();
    const std::lock_guard lock(device.mutex_);
    if (device.facts_.knows_free) *free_bytes = device.facts_.memory_bytes - device.used_bytes_;
    return device.facts_.knows_free;
  }
  static CudaCode use_device(int number) {
    return call(CudaCall::kUseDevice, [=](FakeDevice& device, Lock&) {
      if (number < 0 || number >= device.facts_.devices) return kInvalidDevice;
      current_device = number;
      return kCudaOk;
    });
  }
  static CudaCode device_facts(int number, DeviceFacts* facts) {
    return call(CudaCall::kDeviceFacts, [=](FakeDevice& device, Lock&) {
      if (number < 0 || number >= device.facts_.devices) return kInvalidDevice;
      std::strcpy(facts->name, "Fake");
      facts->compute_major = device.facts_.compute_major, facts->compute_minor = device.facts_.compute_minor;
      facts->multiprocessors = 4;
      facts->memory_bytes = device.facts_.memory_bytes;
      facts->can_hand_over = device.facts_.can_hand_over;
      return kCudaOk;
    });
  }
  static CudaCode memory(uint64_t* free_bytes, uint64_t* total_bytes) {
    return call(CudaCall::kMemory, [=](FakeDevice& device, Lock&) {
      *total_bytes = device.facts_.memory_bytes;
      *free_bytes = device.facts_.memory_bytes - device.facts_.context_bytes - device.used_bytes_;
      return kCudaOk;
    });
  }

  static CudaCode allocate(void** data, uint64_t bytes) {
    return call(CudaCall::kAllocate, [=](FakeDevice& device, Lock&) {
      if (bytes > device.facts_.memory_bytes - device.used_bytes_) return kCudaOutOfMemory;
      const uint64_t offset = bytes < kSmall ? kOffset * (1 + device.counts_[static_cast<size_t>(CudaCall::kAllocate)] % 3) : 0;
      void* const base = std::aligned_alloc(4096, (bytes + offset + 4095) / 4096 * 4096);
      if (base == nullptr) return kCudaOutOfMemory;
      *data = static_cast<std::byte*>(base) + offset;
      std::memset(*data, 0xcd, bytes);
      device.memory_[reinterpret_cast<uintptr_t>(*data)] = {base, bytes};
      device.used_bytes_ += bytes;
      ++device.live_;
      return kCudaOk;
    });
  }
  static CudaCode release(void* data) {
    return give_back(CudaCall::kRelease, [=](FakeDevice& device, Lock& lock) {
      const auto found = device.memory_.find(reinterpret_cast<uintptr_t>(data));
      if (found == device.memory_.end()) return device.leave(kInvalidValue);
      const auto [base, bytes] = found->second;
      if (device.counts_use() && device.is_in_use(data, bytes)) ++device.misuses_;
      device.settle(lock);
      device.used_bytes_ -= bytes;
      device.memory_.erase(found);
      --device.live_;
      std::free(base);
      return kCudaOk;
    });
  }
  static CudaCode pin(void* data, uint64_t bytes) {
    return call(CudaCall::kPin, [=](FakeDevice& device, Lock&) {
      device.pinned_[reinterpret_cast<uintptr_t>(data)] = bytes;
      ++device.live_;
      return kCudaOk;
    });
  }
  static CudaCode unpin(void* data) {
    return give_back(CudaCall::kUnpin, [=](FakeDevice& device, Lock& lock) {
      const auto found = device.pinned_.find(reinterpret_cast<uintptr_t>(data));
      if (found == device.pinned_.end()) return device.leave(kInvalidValue);
      if (device.counts_use() && device.is_in_use(data, found->second)) ++device.misuses_;
      device.settle(lock);
      device.pinned_.erase(found);
      --device.live_;
      return kCudaOk;
    });
  }

  static CudaCode create_stream(StreamHandle* stream, bool) {
    return call(CudaCall::kCreateStream, [=](FakeDevice& device, Lock&) {
      device.streams_.push_back(std::make_unique<FakeDevice::Stream>());
      FakeDevice::Stream* const made = device.streams_.back().get();
      made->device = current_device;
      made->thread = std::thread([&device, made] { device.run_stream(made); });
      *stream = reinterpret_cast<StreamHandle>(made);
      ++device.live_;
      return kCudaOk;
    });
  }
  static CudaCode destroy_stream(StreamHandle stream) {
    return give_back(CudaCall::kDestroyStream, [=](FakeDevice& device, Lock& lock) {
      of(stream)->is_stopping = true;
      device.changed_.notify_all();
      lock.unlock();
      of(stream)->thread.join();
      lock.lock();
      of(stream)->size = 0, of(stream)->done = of(stream)->submitted;
      device.changed_.notify_all();
      --device.live_;
      return kCudaOk;
    });
  }
  static CudaCode create_event(EventHandle* event) {
    return call(CudaCall::kCreateEvent, [=](FakeDevice& device, Lock&) {
      *event = reinterpret_cast<EventHandle>(new FakeDevice::Event);
      ++device.live_;
      return kCudaOk;
    });
  }
  static CudaCode destroy_event(EventHandle event) {
    return give_back(CudaCall::kDestroyEvent, [=](FakeDevice& device, Lock&) {
      delete of(event);
      --device.live_;
      return kCudaOk;
    });
  }
  static CudaCode record_event(EventHandle event, StreamHandle stream) {
    return call(CudaCall::kRecordEvent, [=](FakeDevice& device, Lock&) {
      if (of(stream)->device != current_device) return device.leave(kInvalidHandle);
      if (of(stream)->capture) return kCaptureUnsupported;
      *of(event) = {of(stream), of(stream)->submitted};
      return kCudaOk;
    });
  }
  static CudaCode wait_event(StreamHandle stream, EventHandle event) {
    return call(CudaCall::kWaitEvent, [=](FakeDevice& device, Lock& lock) {
      if (of(event)->stream == nullptr) return kCudaOk;
      Task task;
      task.kind = Task::Kind::kWait;
      task.of = of(event)->stream, task.position = of(event)->position;
      return device.submit(lock, of(stream), task);
    });
  }
  static CudaCode query_event(EventHandle event) {
    return call(CudaCall::kQueryEvent, [=](FakeDevice&, Lock&) {
      const bool is_ready = of(event)->stream == nullptr || of(event)->stream->done >= of(event)->position;
      return is_ready ? kCudaOk : kCudaNotReady;
    });
  }

  static CudaCode copy(StreamHandle stream, void* dst, const void* src, uint64_t bytes) {
    return call(CudaCall::kCopy, [=](FakeDevice& device, Lock& lock) {
      if (!device.is_reachable(dst, bytes) || !device.is_reachable(src, bytes)) return device.leave(kInvalidValue);
      Task task;
      task.dst = dst, task.src = src, task.bytes = bytes;
      return device.submit(lock, of(stream), task);
    });
  }
  static CudaCode clear(StreamHandle stream, void* dst, uint64_t bytes) {
    return call(CudaCall::kClear, [=](FakeDevice& device, Lock& lock) {
      if (!device.is_reachable(dst, bytes)) return device.leave(kInvalidValue);
      Task task;
      task.kind = Task::Kind::kClear;
      task.dst = dst, task.bytes = bytes;
      return device.submit(lock, of(stream), task);
    });
  }
  static CudaCode launch(StreamHandle stream, const KernelCall& given) {
    return call(CudaCall::kLaunch, [&given, stream](FakeDevice& device, Lock& lock) {
      Task task;
      task.kind = Task::Kind::kKernel;
      task.call = given;
      size_t used = 0;
      if (given.argument_count > kMostArguments) return device.leave(kInvalidValue);
      for (uint32_t i = 0; i < given.argument_count; ++i) {
        if (given.argument_bytes[i] > kMostArgumentBytes - used) return device.leave(kInvalidValue);
        task.offsets[i] = static_cast<uint16_t>(used);
        std::memcpy(task.arguments.data() + used, given.arguments[i], given.argument_bytes[i]);
        used = (used + given.argument_bytes[i] + 15) / 16 * 16;
      }
      return device.submit(lock, of(stream), task);
    });
  }
  static CudaCode allow_shared(const void*, uint32_t) {
    return call(CudaCall::kAllowShared, [](FakeDevice&, Lock&) { return kCudaOk; });
  }

  static CudaCode begin_capture(StreamHandle stream) {
    return call(CudaCall::kBeginCapture, [=](FakeDevice& device, Lock&) {
      if (of(stream)->capture) return device.leave(kInvalidValue);
      of(stream)->capture = std::make_unique<FakeDevice::Graph>();
      return kCudaOk;
    });
  }
  /// Recording has ended, whatever it says.
  static CudaCode end_capture(StreamHandle stream, GraphHandle* graph) {
    FakeDevice& device = FakeDevice::get();
    const Lock lock(device.mutex_);
    std::unique_ptr<FakeDevice::Graph> recorded = std::move(of(stream)->capture);
    if (const CudaCode code = device.enter(CudaCall::kEndCapture); code != kCudaOk) return code;
    if (!recorded) return device.leave(kInvalidValue);
    *graph = reinterpret_cast<GraphHandle>(recorded.release());
    ++device.live_;
    return kCudaOk;
  }
  static CudaCode launch_graph(StreamHandle stream, GraphHandle graph) {
    return call(CudaCall::kLaunchGraph, [=](FakeDevice& device, Lock& lock) {
      Task task;
      task.kind = Task::Kind::kGraph;
      task.graph = of(graph);
      return device.submit(lock, of(stream), task);
    });
  }
  static CudaCode destroy_graph(GraphHandle graph) {
    return give_back(CudaCall::kDestroyGraph, [=](FakeDevice& device, Lock& lock) {
      if (device.counts_use() && device.is_in_use(of(graph))) ++device.misuses_;
      device.settle(lock);
      delete of(graph);
      --device.live_;
      return kCudaOk;
    });
  }
};

const CudaApi& FakeDevice::api() {
  static constexpr CudaApi kApi = {
      FakeCalls::error_text,    FakeCalls::device_count,   FakeCalls::free_before,  FakeCalls::use_device,    FakeCalls::device_facts,
      FakeCalls::memory,        FakeCalls::allocate,       FakeCalls::release,      FakeCalls::pin,           FakeCalls::unpin,
      FakeCalls::create_stream, FakeCalls::destroy_stream, FakeCalls::create_event, FakeCalls::destroy_event, FakeCalls::record_event,
      FakeCalls::wait_event,    FakeCalls::query_event,    FakeCalls::copy,         FakeCalls::clear,         FakeCalls::launch,
      FakeCalls::allow_shared,  FakeCalls::begin_capture,  FakeCalls::end_capture,  FakeCalls::launch_graph,  FakeCalls::destroy_graph};
  return kApi;
}

}  // namespace outrigger::cuda
