// FakeDevice: a CUDA runtime on the host. Streams are queues with a thread each, kernels are run by the emulator, and calls fail where a
// test says so.
#ifndef OUTRIGGER_TESTS_CUDA_FAKE_DEVICE_H_
#define OUTRIGGER_TESTS_CUDA_FAKE_DEVICE_H_

#include <array>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "cuda/device/cuda_api.h"

namespace outrigger::cuda {

/// In the order of CudaApi's members, without error_text.
enum class CudaCall : uint8_t {
  kDeviceCount,
  kUseDevice,
  kDeviceFacts,
  kMemory,
  kAllocate,
  kRelease,
  kPin,
  kUnpin,
  kCreateStream,
  kDestroyStream,
  kCreateEvent,
  kDestroyEvent,
  kRecordEvent,
  kWaitEvent,
  kQueryEvent,
  kCopy,
  kClear,
  kLaunch,
  kAllowShared,
  kBeginCapture,
  kEndCapture,
  kLaunchGraph,
  kDestroyGraph,
};
inline constexpr size_t kCudaCalls = 23;

enum class CudaFault : uint8_t {
  kOutOfMemory,     ///< the call does nothing and says so, once
  kIllegalAddress,  ///< from this call on every one says so, and no work is done any more: the context is gone
  kHang,            ///< the call and all later ones are well, but no work is done any more
};
inline constexpr size_t kCudaFaults = 3;
inline constexpr CudaCode kCudaIllegalAddress = 700;

/// What there is, as a test may change it between reset() and the first call.
struct FakeFacts {
  int devices = 1;
  CudaCode count_code = kCudaOk;  ///< what counting them gives
  int compute_major = 9, compute_minor = 0;
  uint64_t memory_bytes = 64 << 20;
  uint64_t context_bytes = 0;     ///< that are taken from the first use on
  bool knows_free = true;         ///< before that
  bool can_hand_over = true;
};

/// Submitting returns at once; each stream's work is done in order, streams run beside each other, kernels one at a time. Steady work
/// allocates nothing. Calls that give back do so whatever they say, and wait for all work, as the runtime's do. Memory of less than 1 MiB
/// is aligned to 256 bytes only, and full of rubbish. Threads: any.
class FakeDevice {
 public:
  /// The only one: a table's functions have no object.
  static FakeDevice& get();
  static const CudaApi& api();

  /// As new. Precondition: live_objects() is 0.
  void reset(const FakeFacts& facts = {});
  /// The `nth` call from the last reset() on, from 1, fails so. With kHang no memory is counted as given back in use.
  void inject(CudaCall call, uint64_t nth, CudaFault fault);
  bool has_happened() const;
  uint64_t calls(CudaCall call) const;
  /// Allocations, pinned ranges, streams, events and graphs that were not given back.
  size_t live_objects() const;
  /// Calls that a real device would punish later: of memory that is not there, is given back in use, or belongs to another device.
  size_t misuses() const;

  struct Stream;
  struct Event;
  struct Graph;
  struct Task;

 private:
  using Lock = std::unique_lock<std::mutex>;
  friend struct FakeCalls;

  FakeDevice();
  ~FakeDevice();
  CudaCode enter(CudaCall call);
  CudaCode leave(CudaCode code);
  CudaCode submit(Lock& lock, Stream* stream, const Task& task);
  void run_stream(Stream* stream);
  static void run_task(const Task& task);
  bool is_reachable(const void* address, uint64_t bytes) const;
  bool counts_use() const;
  void settle(Lock& lock);
  bool is_in_use(const void* address, uint64_t bytes) const;
  bool is_in_use(const Graph* graph) const;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  FakeFacts facts_;
  std::array<uint64_t, kCudaCalls> counts_{};
  CudaCall fault_call_{};
  CudaFault fault_{};
  uint64_t fault_at_ = 0;  // 0: none
  bool has_happened_ = false, is_broken_ = false, is_hung_ = false;
  size_t live_ = 0, misuses_ = 0, running_ = 0;
  struct Memory {
    void* base;
    uint64_t bytes;
  };
  std::map<uintptr_t, Memory> memory_;
  std::map<uintptr_t, uint64_t> pinned_;
  uint64_t used_bytes_ = 0;
  std::vector<std::unique_ptr<Stream>> streams_;  // those that were destroyed too: events remember them
};

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_TESTS_CUDA_FAKE_DEVICE_H_
