// A GPU as a backend, on the CUDA runtime's table.
#ifndef OUTRIGGER_CUDA_DEVICE_CUDA_BACKEND_H_
#define OUTRIGGER_CUDA_DEVICE_CUDA_BACKEND_H_

#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "cuda/device/cuda_api.h"
#include "cuda/device/cuda_stream.h"
#include "cuda/device/joined_ops.h"
#include "cuda/device/recorded_runs.h"
#include "src/device/allocation_table.h"
#include "src/device/backend.h"

namespace outrigger::cuda {

struct CudaDeviceOptions {
  int device = 0;
  std::string architectures;  ///< that there are kernels for, as a build names them: "90", for messages
  /// For all of a device's work to end, where nobody said a time: when memory is made or given back. Then the device counts as lost.
  std::chrono::nanoseconds patience = std::chrono::seconds(60);
  bool repeats_runs =
      false;  ///< operations that came before in the same order are launched as a graph: docs/design/0017-steps-as-graphs.md
  bool hands_over = true;  ///< where the card can: docs/design/0027-handing-over-by-words.md
};

/// Opens the GPU and runs a kernel on it. `api` must outlive it. Errors: kUnavailable, with what is missing, for no driver, no such GPU,
/// one before 7.5 or without kernels in this build; kOutOfMemory; kDevice.
Result<std::unique_ptr<Backend>> open_cuda_device(const CudaApi& api, const CudaDeviceOptions& options);

/// A stream of the runtime for each, and one for zeroing. Addresses are checked when an operation is submitted. One lock is held around
/// submitting, none in waiting. What may be joined waits for what comes next, and where runs are repeated all operations for what follows
/// them: until their stream is given anything else. Made by open_cuda_device.
class CudaBackend final : public Backend, private MemoryOwner {
 public:
  CudaBackend(const CudaApi& api, const CudaDeviceOptions& options, const DeviceFacts& facts);
  ~CudaBackend() override;
  /// Makes the device's context, the streams and, where runs are repeated, the memory that graphs need: 16 KiB on each side. Once, before
  /// anything else. Errors: kOutOfMemory, kUnavailable, kDevice.
  Status start();

  Inventory inventory() const override;
  std::string name() const override { return "cuda"; }
  DeviceWorkCounts work() const override;
  Result<DeviceMemory> allocate(uint64_t bytes) override;
  Result<PinnedMemory> allocate_pinned(uint64_t bytes) override;
  bool supports(DeviceOpKind op, PackedKind) const override { return can_hand_over() || !is_handoff(op); }
  uint64_t scratch_bytes(const DeviceOp& op) const override;
  Status copy_to_device(Stream stream, std::byte* dst, const std::byte* src, uint64_t bytes) override;
  Status copy_to_host(Stream stream, std::byte* dst, const std::byte* src, uint64_t bytes) override;
  Status launch(Stream stream, const DeviceOp& op) override;
  Result<Event> record(Stream stream) override;
  Status wait(Stream stream, const Event& event) override;
  Result<bool> query(const Event& event) override;
  Status synchronize(const Event& event, std::chrono::nanoseconds timeout) override;

 private:
  static constexpr size_t kZeroing = kStreams;  // the stream after the seam's own
  using Lock = std::unique_lock<std::mutex>;
  /// Memory as the runtime gave it: `data` is the first multiple of 4096 in it.
  struct Block {
    std::byte* data;
    uint64_t before;
  };
  /// Operations of a stream since it was last given anything else.
  struct Submitted {
    OperationRun run;
    bool is_held = true;   // none is launched yet: a recorded run begins so
    size_t candidate = 0;  // for RecordedRuns::begins()
    JoinedOps joined;
  };

  void take_back(MemoryPlace place, std::byte* data, uint64_t bytes) noexcept override;

  bool can_hand_over() const { return options_.hands_over && facts_.can_hand_over; }
  Status open_streams();
  CudaCode use_device() const;  // for the calling thread
  // Where there is a lock to give, it is held. A failure of the device stays.
  Status enter(const Lock& lock);
  Status fail(const Lock& lock, Status status);
  Status ended(const Lock& lock, CudaCode code, const char* call, uint64_t needed_bytes = 0);
  Status out_of_memory(uint64_t needed_bytes) const;
  Status check_event(const Event& event) const;
  // Ends the stream's run, with all of it launched: before the stream is given anything else or asked for.
  Status flush(const Lock& lock, size_t which);
  Status launch_now(const Lock& lock, size_t which, const DeviceOp& op);
  Status launch_joined(const Lock& lock, size_t which);
  Status launch_held(const Lock& lock, size_t which, size_t count);
  Status lose(const Lock& lock, const Status& status);
  Launcher launcher_of(size_t which) const { return {api_, streams_[which].handle(), facts_.multiprocessors, nullptr}; }
  Status copy(Stream stream, std::byte* dst, const std::byte* src, const std::byte* device, const std::byte* host, uint64_t bytes);
  // All that was submitted is done, or the device is lost.
  Status finish(size_t stream);
  void finish_all() noexcept;

  CudaCode take(uint64_t bytes, Block* block) const;
  Status zero(std::byte* data, uint64_t bytes);
  bool keep(const Lock& lock, const Block& block, uint64_t bytes) noexcept;
  uint64_t taken_bytes(uint64_t free_bytes) const;
  void* base_of(std::byte* data) const;
  static uint64_t pinned_piece_bytes(const std::byte* host);  // from there to the piece's end
  CudaCode pin(std::byte* data, uint64_t bytes) const;
  void unpin(std::byte* data, uint64_t bytes) const noexcept;

  const CudaApi& api_;
  const CudaDeviceOptions options_;
  const DeviceFacts facts_;
  mutable std::mutex mutex_;  // of everything below
  Status failure_;
  DeviceWorkCounts counts_;
  std::optional<uint64_t> free_before_;  // the first context here; none where that is not known
  bool is_lost_ = false;  // given up: nothing of the device is waited for
  std::array<CudaStream, kStreams + 1> streams_;
  std::array<Submitted, kStreams> submitted_;
  RecordedRuns runs_;
  DeviceMemory device_positions_;  // of runs_
  PinnedMemory host_positions_;
  AllocationTable memory_, pinned_;
  AllocationTable before_;  // Block::before of the memory that has some
};

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_DEVICE_CUDA_BACKEND_H_
